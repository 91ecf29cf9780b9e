"""The only writer to stdout and stderr: answers, tables, JSON, notes, one line of status.

stdout is the answer, everything else is stderr. Whatever came from outside is cleaned here, into
pipes too. Colour and moving lines exist only on a terminal, and no colour under NO_COLOR. Refuses
to know commands, errors' meaning and core. A reader that went away raises `ReaderGone`.
"""

import errno
import os
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from llmchat.errors import LlmchatError
from llmchat.text.cleaning import clean, clean_line

GAP = 4
"""Spaces between the columns of a table, as ollama prints them."""

DIM, BOLD, NORMAL = "\x1b[2m", "\x1b[1m", "\x1b[0m"
ERASE_LINE = "\r\x1b[K"


class ReaderGone(Exception):
    """Whoever read our output has left (`| head -1`): end quietly."""


def prepare_streams() -> None:
    """Make every character printable in any locale, and a line appear when it is complete."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace", line_buffering=True)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person may be looking at `stream`. False when it is closed."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def is_dumb() -> bool:
    """Whether the terminal cannot move its cursor or show colour."""
    return os.environ.get("TERM", "dumb") in ("", "dumb")


def may_draw() -> bool:
    """Whether stderr can show a line that moves."""
    return is_terminal(sys.stderr) and not is_dumb()


def may_colour(stream: TextIO | None) -> bool:
    """Whether `stream` gets colour: a terminal, and no NO_COLOR (https://no-color.org)."""
    return is_terminal(stream) and not is_dumb() and not os.environ.get("NO_COLOR")


def answer(text: str) -> None:
    """A line or more of the answer, cleaned, on stdout."""
    write_answer(clean(text) + "\n")


def write_answer(text: str) -> None:
    """Exactly `text` on stdout, at once. For text that is clean already, or asked for raw."""
    _write(sys.stdout, text)


def answer_json(value: object) -> None:
    """`value` as one line of JSON on stdout; msgspec encodes structs by their field names.

    JSON's own escapes make control characters harmless, so values stay exact.
    """
    import msgspec

    text = msgspec.json.encode(value).decode()
    write_answer(escape_controls(text) + "\n")


def escape_controls(text: str) -> str:
    r"""C1 controls, bidi overrides and other invisible characters as JSON's \uXXXX.

    msgspec escapes only what JSON demands (below U+0020); a terminal acts on more.
    """
    if text.isascii() and "\x7f" not in text:
        return text
    escaped = []
    for character in text:
        if character == "\n" or clean(character) == character:
            escaped.append(character)
            continue
        units = character.encode("utf-16-be", "surrogatepass")
        escaped += [f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)]
    return "".join(escaped)


def note(text: str) -> None:
    """A line for a person on stderr, cleaned."""
    _write(sys.stderr, clean(text) + "\n")


def note_dim(text: str) -> None:
    """A piece of text on stderr, dim where there is colour; cleaned by the caller, no newline."""
    _write(sys.stderr, f"{DIM}{text}{NORMAL}" if may_colour(sys.stderr) else text)


def status(text: str) -> None:
    """One line on stderr that the next status replaces. Nothing without a terminal."""
    if may_draw():
        width = terminal_width()
        _write(sys.stderr, ERASE_LINE + clean_line(text, max(1, width - 1)))


def end_status() -> None:
    """Take the status line away."""
    if may_draw():
        _write(sys.stderr, ERASE_LINE)


def terminal_width() -> int:
    """Columns of the terminal behind stderr; 80 when it does not say."""
    with suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    return 80


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns under their headings on stdout, every cell cleaned to one line.

    The last column is not padded; widths count cells of the terminal (a CJK character is two).
    """
    lines = [tuple(columns), *(tuple(clean_line(cell) for cell in row) for row in rows)]
    widths = [max(cells(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        table_line(line, widths)


def table_line(line: Sequence[str], widths: Sequence[int]) -> None:
    """One line of a table whose columns are so wide, cleaned; for rows that come one by one."""
    clean_cells = [clean_line(cell) for cell in line]
    padded = [
        text + " " * (width - cells(text) + GAP)
        for text, width in zip(clean_cells[:-1], widths[: len(line) - 1], strict=True)
    ]
    write_answer("".join(padded) + clean_cells[-1] + "\n")


def cells(text: str) -> int:
    """Terminal cells that `text` takes."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def ask(question: str) -> str | None:
    """What the person types after `question` on stderr; None at the end of input.

    Only for a terminal: ask `can_ask` before.
    """
    _write(sys.stderr, clean(question))
    line = sys.stdin.readline()
    return line.strip() if line else None


def can_ask() -> bool:
    """Whether a person is there to answer: stdin and stderr are terminals."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def drop_streams() -> None:
    """Let nothing be written any more, so that Python's own flush at exit stays quiet."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            with suppress(OSError):
                os.write(descriptor, b"")
                continue
            os.dup2(nowhere, descriptor)
        os.dup2(nowhere, 1)
        os.close(nowhere)


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # closed before we started: `llmchat list >&-`
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        if stream is sys.stderr or error.errno == errno.EIO:  # the terminal itself is gone
            raise ReaderGone from error
        reason = error.strerror or str(error)
        raise LlmchatError("cli.output_failed", reason=reason) from error
