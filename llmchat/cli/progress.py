"""A bar on stderr for pulls and loads: share, amounts, speed, time left.

Draws only on a terminal, at most twenty times a second, and never goes backwards.
"""

import time

from llmchat.cli.amounts import clock, size
from llmchat.cli.output import cells, end_status, status, terminal_width
from llmchat.text.cleaning import clean_line

BAR = 24
PAUSE = 0.05
"""Seconds between two drawings."""


class Bar:
    """One thing that gets done. `with Bar("pulling"):` takes its line away at the end."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._share = 0.0
        self._drawn = 0.0

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        end_status()

    def bytes(self, label: str, done: int, total: int, rate: float) -> None:
        """So many bytes of so many, at so many a second."""
        left = (total - done) / rate if rate > 0 else float("inf")
        tail = f"{size(done)}/{size(total)}  {size(int(rate))}/s  {clock(left)}"
        self.share(label, done / total if total else 0.0, tail)

    def share(self, label: str, share: float, tail: str = "") -> None:
        """A share from 0 to 1. A new label is another thing and begins afresh."""
        if label != self._label:
            self._label, self._share, self._drawn = label, 0.0, 0.0
        self._share = min(1.0, max(self._share, share))
        now = time.monotonic()
        if now - self._drawn < PAUSE and self._share < 1:
            return
        self._drawn = now
        status(bar_line(self._label, self._share, tail, terminal_width() - 1))


def bar_line(label: str, share: float, tail: str, width: int) -> str:
    """`smollm2:135m   62% ━━━━━━━━────  61 MB/98 MB  12 MB/s  0:03` in at most `width` cells."""
    percent = f"{int(share * 100):3}%"
    label = clean_line(label)
    free = width - cells(label) - cells(tail) - len(percent) - 6
    if free < 4:
        return f"{clean_line(label, max(1, width - len(percent) - 1))} {percent}"
    room = min(BAR, free)
    filled = round(share * room)
    return f"{label}  {percent} {'━' * filled}{'─' * (room - filled)}  {tail}".rstrip()
