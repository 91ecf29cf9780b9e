"""Waiting until free memory stands still: a GPU gives back what a process had after it has ended.

Pure: it gets a function that reads what is free, a clock and a way to wait, so it is tested on
recorded values.
"""

from collections.abc import Callable, Mapping
from typing import Final

STABLE: Final = 0.2
"""Seconds without change that count as standing still."""
MOST: Final = 5.0
"""Seconds after which it is taken as it is."""
POLL: Final = 0.05
NOISE: Final = 16 << 20
"""Bytes that other programs may move meanwhile."""


def settle(
    read: Callable[[], Mapping[str, int]],
    *,
    clock: Callable[[], float],
    wait: Callable[[float], object],
) -> Mapping[str, int]:
    """Free bytes by device once they have not changed for `STABLE` seconds, or after `MOST`."""
    begun = clock()
    free, since = read(), begun
    while clock() - since < STABLE and clock() - begun < MOST:
        wait(POLL)
        now = read()
        if now.keys() != free.keys() or any(abs(now[name] - free[name]) > NOISE for name in now):
            free, since = now, clock()
    return free
