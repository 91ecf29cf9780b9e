"""Timing that can be compared: alternating runs, medians, and the spread beside each figure."""

import statistics
import time
from collections.abc import Callable, Sequence

from msgspec import Struct


class Figure(Struct, frozen=True, kw_only=True):
    """One row of docs/performance.md."""

    what: str
    against: str
    ours: float
    """Median, in `unit`."""
    floor: float
    """Median of what it is compared with, in `unit`."""
    ratio: float
    reach: str
    """The figure to reach, e.g. `>= 0.95`."""
    unit: str
    runs: int
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether the ratio satisfies `reach`."""
        sign, limit = self.reach.split()
        return self.ratio >= float(limit) if sign == ">=" else self.ratio <= float(limit)


def seconds(action: Callable[[], object]) -> float:
    """How long `action` takes, by the wall clock."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def alternate(
    runs: int, ours: Callable[[], float], floor: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """`runs` values of each, taken in turns so that a busy minute hits both alike."""
    mine, other = [], []
    for turn in range(runs):
        first, second = (ours, floor) if turn % 2 == 0 else (floor, ours)
        a, b = first(), second()
        mine.append(a if turn % 2 == 0 else b)
        other.append(b if turn % 2 == 0 else a)
    return mine, other


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Smallest to largest, for the note."""
    return f"{min(values):.3g} to {max(values):.3g}"
