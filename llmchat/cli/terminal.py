"""The terminal's modes: whether there is one, what they were, and putting them back.

Owns termios and the escape sequences that undo what a full-screen program sets. Knows no child and
no signal: `guardian.py` does.
"""

import os
import termios
from contextlib import suppress
from typing import Any

from llmchat.errors import UsageError

STANDARD = (0, 1, 2)
"""Textual reads descriptor 0 and draws on 2; people expect it on 1 too."""

LEAVE_SCREEN = (
    b"\x1b[<u"  # kitty keyboard protocol: pop our flags, while still on the other screen
    b"\x1b[?1049l"  # back to the normal screen, and to the cursor's old place
)
RESET_MODES = (
    b"\x1b[?2026l"  # synchronized output: draw again
    b"\x1b[?2048l"  # no reports of resizes in band
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1016l"  # mouse
    b"\x1b[?1004l"  # focus reports
    b"\x1b[?2004l"  # bracketed paste
    b"\x1b[?7h"  # wrap at the right edge
    b"\x1b[?25h"  # show the cursor
    b"\x1b[0m"  # no colour
)


def require_terminal() -> None:
    """Check that a full-screen program can run here.

    Raises:
        UsageError: a standard stream is no terminal, or TERM says it cannot move its cursor.
    """
    if not all(os.isatty(descriptor) for descriptor in STANDARD):
        raise UsageError("cli.no_terminal")
    if os.environ.get("TERM", "") in ("", "dumb"):
        raise UsageError("cli.dumb_terminal")


class TerminalModes:
    """The modes of the terminal on stdin as they were when this was made."""

    def __init__(self) -> None:
        self._before = self._now()

    def _now(self) -> list[Any] | None:
        try:
            return termios.tcgetattr(0)
        except termios.error:  # the terminal is gone
            return None

    @property
    def changed(self) -> bool:
        """Whether a program left its own modes behind."""
        return self._now() != self._before

    def restore(self, *, leave_screen: bool) -> None:
        """Put everything back; `leave_screen` also when the other screen may still be shown.

        Leaving it twice would move the cursor to an old place (xterm does), so a program that
        left by itself is not followed by another sequence for it.
        """
        self._write((LEAVE_SCREEN if leave_screen else b"") + RESET_MODES)
        if self._before is not None:
            with suppress(termios.error):
                termios.tcsetattr(0, termios.TCSANOW, self._before)
                if leave_screen:
                    # Mouse reports that nobody read would end up in the shell's command line.
                    termios.tcflush(0, termios.TCIFLUSH)

    def say(self, sentence: str) -> None:
        """One clean line on the terminal, below what is there."""
        self._write(f"{sentence}\r\n".encode())

    def _write(self, data: bytes) -> None:
        """Write without waiting for ever: a terminal stopped by Ctrl+S must not hold us."""
        with suppress(OSError):
            termios.tcflow(2, termios.TCOON)
        with suppress(OSError):
            while data:
                data = data[os.write(2, data) :]
