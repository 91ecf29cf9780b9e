"""A pseudo-terminal with an emulator behind it: start a program, type, read its screen.

Waiting is always for a condition with a deadline, never a sleep. Raw bytes are kept, so that a test
can ask which escape sequences a program sent.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import pyte

KEYS = {
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "backspace": "\x7f",
    "f1": "\x1bOP",
    "f2": "\x1bOQ",
    "f3": "\x1bOR",
    "f4": "\x1bOS",
} | {f"ctrl+{c}": chr(ord(c) - 96) for c in "abcdefghijklmnopqrstuvwxyz"}


def _environment() -> dict[str, str]:
    """Ours, without a size that would stand above the terminal's own (pytest-xdist sets one)."""
    return {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}


class Terminal:
    """`with Terminal([...]) as t:` the program runs on a terminal of its own; killed at the end."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 100,
        lines: int = 30,
        env: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.timeout = timeout
        self.raw = bytearray()
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.leader, self.follower = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.follower)
        self.process = subprocess.Popen(
            list(command),
            stdin=self.follower,
            stdout=self.follower,
            stderr=self.follower,
            env={**_environment(), "TERM": "xterm-256color", **(env or {})},
            preexec_fn=self._own_terminal,
        )

    def _own_terminal(self) -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=10)
        os.close(self.leader)
        os.close(self.follower)

    def resize(self, columns: int, lines: int) -> None:
        """A new size; the program is told by SIGWINCH."""
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.follower, termios.TIOCSWINSZ, size)
        self._screen.resize(lines, columns)

    def type(self, text: str) -> None:
        """Characters as typed."""
        os.write(self.leader, text.encode())

    def press(self, *keys: str) -> None:
        """Named keys (`enter`, `ctrl+o`, `f4`), one after the other."""
        for key in keys:
            self.type(KEYS.get(key, key))

    def read(self, seconds: float = 0.05) -> bool:
        """Take in what the program wrote within `seconds`; False when there was nothing."""
        if not select.select([self.leader], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.leader, 65536)
        except OSError:  # the other side is closed
            return False
        self.raw += data
        # pyte 0.8.2 takes the private `CSI > ... u/m` and `CSI = ...` forms for others.
        self._stream.feed(re.sub(rb"\x1b\[[<>=?][0-9;]*[mu]", b"", data))
        return bool(data)

    @property
    def lines(self) -> list[str]:
        """The screen as it stands, a string a line."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The screen as one string."""
        return "\n".join(self.lines)

    def wait(self, condition: Callable[[], bool], what: str, timeout: float | None = None) -> None:
        """Read until `condition` holds.

        Raises:
            AssertionError: the deadline passed; the message shows the screen.
        """
        deadline = time.monotonic() + (timeout or self.timeout)
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}; the screen:\n{self.text}")
            self.read()

    def wait_for(self, pattern: str, timeout: float | None = None) -> re.Match[str]:
        """Read until the screen shows `pattern` (a regular expression)."""
        found: list[re.Match[str]] = []

        def shown() -> bool:
            match = re.search(pattern, self.text)
            if match:
                found.append(match)
            return match is not None

        self.wait(shown, repr(pattern), timeout)
        return found[-1]

    def wait_gone(self, pattern: str, timeout: float | None = None) -> None:
        """Read until the screen no longer shows `pattern`, and nothing more comes.

        A paint in two parts may leave it out for a moment.
        """

        def gone() -> bool:
            return not self.read(0.3) and re.search(pattern, self.text) is None

        self.wait(gone, f"no {pattern!r}", timeout)

    def wait_exit(self, timeout: float | None = None) -> int:
        """Read until the program has ended; its exit code (-n for signal n)."""
        self.wait(lambda: self.process.poll() is not None, "the program's end", timeout)
        while self.read(0.05):
            pass
        assert self.process.returncode is not None
        return self.process.returncode

    def restored(self) -> bool:
        """Whether the terminal's modes are as they were before the program."""
        return termios.tcgetattr(self.follower) == self.before
