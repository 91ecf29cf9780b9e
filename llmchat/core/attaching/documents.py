"""PDF and Word documents, taken apart in a process of their own.

    python -m llmchat.core.attaching.documents pdf < file     the text to stdout

A document can be made to eat memory and time, so its reader gets a bounded amount of both; whatever
becomes of it, the program that asked gets text or one sentence.
"""

import subprocess
import sys
import threading
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


class Documents:
    """Takes documents apart, on the caller's thread, until it is closed."""

    def __init__(self) -> None:
        self._readers: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        self._lock = threading.Lock()

    def text_of(self, data: bytes, kind: DocumentKind, name: str) -> str:
        """The text of a document.

        Raises:
            UsageError: it is damaged, locked, without text, or takes too long; or this was closed.
        """
        try:
            code, out, err = self._read([sys.executable, "-P", "-m", __name__, kind], data)
        except subprocess.TimeoutExpired as error:
            raise UsageError("core.document_slow", name=name, seconds=SECONDS) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError("core.document_damaged", name=name, reason=reason) from error
        if code == LOCKED:
            raise UsageError("core.document_locked", name=name)
        if code != 0:
            lines = err.decode("utf-8", "replace").strip().splitlines()
            reason = lines[-1][:200] if lines else f"code {code}"
            raise UsageError("core.document_damaged", name=name, reason=reason)
        text = out.decode("utf-8", "replace")
        if not text.strip():
            raise UsageError("core.document_no_text", name=name)
        return text

    def close(self) -> None:
        """End the readers: whoever leaves does not wait for a document to be taken apart."""
        with self._lock:
            self._closed = True
            for reader in self._readers:
                reader.kill()

    def _read(self, command: list[str], data: bytes) -> tuple[int, bytes, bytes]:
        """What became of a reader: its exit code, stdout and stderr."""
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as reader:
            with self._lock:
                self._readers.add(reader)
                if self._closed:
                    reader.kill()
            try:
                out, err = reader.communicate(data, timeout=SECONDS)
            finally:  # interrupted or late: it does not go on alone
                with self._lock:
                    self._readers.discard(reader)
                reader.kill()
        return reader.returncode, out, err


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
