"""Who is computed next: pure policy, no ctypes, no clock of its own.

Owns the order inside a batch (generating replies first, then chunks of prompts), how large a chunk
may be while others generate, who is let in, and who gives way when the pool is full.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

TARGET_SECONDS: Final = 0.3
"""A neighbour waits about this long while a prompt is read beside it."""
SMALLEST_CHUNK: Final = 16
HEADROOM: Final = 64
"""Cells kept for each reply when a request is let in, so that it does not give way at once."""


class Reader(Protocol):
    """A reply as the policy sees it."""

    @property
    def pending(self) -> int:
        """Tokens that are not computed yet: 1 while it generates."""
        ...

    @property
    def stretch(self) -> int:
        """How many of them may go into one batch."""
        ...

    @property
    def order(self) -> tuple[int, int]:
        """(-priority, arrival): smaller goes first, the largest gives way."""
        ...


class Share(Struct, frozen=True):
    """What one reply gets of a batch."""

    who: Reader
    rows: int


class ChunkSizer:
    """How many prompt rows fit beside generating replies: a step's seconds per row, smoothed."""

    def __init__(self, n_batch: int, target: float = TARGET_SECONDS) -> None:
        self._n_batch = n_batch
        self._target = target
        self._per_row = 0.0

    @property
    def per_row(self) -> float:
        """Seconds a prompt row takes, smoothed; 0: none was read yet."""
        return self._per_row

    def observe(self, rows: int, seconds: float) -> None:
        """A step that read `rows` prompt rows took `seconds`."""
        if rows < SMALLEST_CHUNK:
            return
        cost = seconds / rows
        self._per_row = cost if not self._per_row else 0.7 * self._per_row + 0.3 * cost

    def rows(self, *, alone: bool) -> int:
        """Prompt rows of the next step: the whole batch when nobody waits."""
        if alone:
            return self._n_batch
        if not self._per_row:
            return min(32, self._n_batch)
        fitting = int(self._target / self._per_row)
        return max(min(SMALLEST_CHUNK, self._n_batch), min(self._n_batch, fitting))


def plan(
    generating: Sequence[Reader], reading: Sequence[Reader], n_batch: int, chunk: int
) -> list[Share]:
    """Rows of the next batch: at most `n_batch`, of them at most `chunk` of prompts.

    Generating replies get one row each. Readers share the chunk evenly, in order; what one does
    not need goes to the next.
    """
    if len(generating) > n_batch:
        generating = sorted(generating, key=_order)[:n_batch]
    shares = [Share(reply, 1) for reply in generating]
    room = min(chunk, n_batch - len(shares))
    waiting = sorted(reading, key=_order)
    for position, reply in enumerate(waiting):
        if room <= 0:
            break
        fair = max(SMALLEST_CHUNK, room // (len(waiting) - position))
        rows = min(reply.stretch, fair, room)
        shares.append(Share(reply, rows))
        room -= rows
    return shares


def fits(prompt: int, known: int, n: int, *, active: int, pool: int, headroom: int) -> bool:
    """Whether a request may start beside what holds `active` cells of the pool."""
    return active + (prompt - known) + n * min(headroom, HEADROOM) <= pool


def gives_way(running: Sequence[Reader]) -> Reader | None:
    """Who is put back when the pool is full: the youngest, never the only one."""
    return max(running, key=_order) if len(running) > 1 else None


def _order(reply: Reader) -> tuple[int, int]:
    return reply.order
