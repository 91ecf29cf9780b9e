"""What the user asks: words of the command line, what is piped in, and files.

Owns reading and joining them. Text that is no UTF-8 is read with replacement signs; more than
`MAX_INPUT` is refused, since no context holds it.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from llmchat.cli.output import is_terminal
from llmchat.errors import NotFound, UsageError
from llmchat.values import Part

MAX_INPUT = 16 * 2**20
"""Bytes of one input: about four million tokens."""


def piped() -> str:
    """All of stdin when it is no terminal; else, or when it is closed, nothing."""
    if sys.stdin is None or is_terminal(sys.stdin):
        return ""
    return _text("stdin", sys.stdin.buffer.read(MAX_INPUT + 1))


def question(words: Sequence[str], given: str) -> str:
    """What was piped in, then the words below it, as ollama and llm order them."""
    typed = " ".join(as_text(word) for word in words)
    return "\n\n".join(part for part in (given.rstrip("\n"), typed) if part.strip())


def as_text(word: str) -> str:
    """A word of the command line whose bytes may be no UTF-8, as text that can be stored."""
    return word.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def given_words(text: str) -> str:
    """The words of a `--set`: as they are, or with `-` what is piped in."""
    return piped() if text == "-" else as_text(text)


def attachment(path: str) -> Part:
    """A text file as a part of the message.

    Raises:
        NotFound: it is not there or cannot be read.
        UsageError: it is no text, or too large.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_INPUT + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotFound("cli.file_unreadable", path=path, reason=reason) from error
    if b"\0" in data[:8192]:
        raise UsageError("cli.file_not_text", path=path)
    return Part(kind="file", text=_text(path, data), meta={"name": file.name})


def system_prompt(text: str | None, path: str | None) -> str | None:
    """The system prompt: given as words or as a file, not both.

    Raises:
        UsageError: both were given.
        NotFound: the file cannot be read.
    """
    if path is None:
        return None if text is None else as_text(text)
    if text is not None:
        raise UsageError("cli.two_systems")
    return attachment(path).text.rstrip("\n")


def _text(name: str, data: bytes) -> str:
    if len(data) > MAX_INPUT:
        raise UsageError("cli.input_too_large", name=os.path.basename(name), limit=MAX_INPUT >> 20)
    return data.decode("utf-8", "replace").removeprefix("\ufeff")
