"""PDF and Word documents, taken apart in a process of their own.

    python -m llmchat.core.attaching.documents pdf < file     the text to stdout

A document can be made to eat memory and time, so its reader gets a bounded amount of both; whatever
becomes of it, the program that asked gets text or one sentence.
"""

import subprocess
import sys
from typing import Literal

from llmchat.errors import UsageError

DocumentKind = Literal["pdf", "docx"]

MAX_TEXT = 8 * 2**20
"""Characters that are taken of a document."""

SECONDS = 60
MEMORY = 2 * 2**30
"""Bytes of address space that the reader may have."""

LOCKED, DAMAGED = 3, 4
"""Its exit codes."""


def text_of(data: bytes, kind: DocumentKind, name: str) -> str:
    """The text of a document.

    Raises:
        UsageError: it is damaged, locked, without text, or takes too long.
    """
    command = [sys.executable, "-P", "-m", __name__, kind]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise UsageError("core.document_slow", name=name, seconds=SECONDS) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError("core.document_damaged", name=name, reason=reason) from error
    if done.returncode == LOCKED:
        raise UsageError("core.document_locked", name=name)
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1][:200] if lines else f"code {done.returncode}"
        raise UsageError("core.document_damaged", name=name, reason=reason)
    text = done.stdout.decode("utf-8", "replace")
    if not text.strip():
        raise UsageError("core.document_no_text", name=name)
    return text


def _bound() -> None:
    """Less of everything, where the system can do that."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _main(kind: str) -> int:
    import logging

    _bound()
    logging.disable(logging.CRITICAL)
    data = sys.stdin.buffer.read()
    try:
        text = _read(kind, data)
    except (ValueError, MemoryError, RecursionError) as error:
        sys.stderr.write(f"{str(error) or type(error).__name__}\n")
        return LOCKED if type(error).__name__ == "PdfLocked" else DAMAGED
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    return 0


def _read(kind: str, data: bytes) -> str:
    if kind == "pdf":
        from llmchat.core.attaching import pdf

        return pdf.text_of(data, MAX_TEXT)
    from llmchat.core.attaching import docx

    return docx.text_of(data, MAX_TEXT)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
