"""Which bytes of a file are here, when they did not come in order.

Owns the arithmetic of half-open ranges `[start, end)` and the journal beside a partial file that
keeps them across runs. A partial file without a journal holds its first bytes and no hole. Refuses
to believe a journal of an earlier boot: a power loss may keep it and lose what it speaks of.
"""

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec import Struct

JOURNAL_SUFFIX = "-spans"
"""Follows the partial file's own suffix."""
_ROOM = 4096
"""Bytes of a journal: written whole, in place, so that a kill leaves the old or the new one."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Spans:
    """Disjoint ranges in order, joined where they touch."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    def add(self, start: int, end: int) -> None:
        """The bytes from `start` up to `end` are here, too."""
        if start >= end:
            return
        apart = [r for r in self._ranges if r[1] < start or r[0] > end]
        touching = [r for r in self._ranges if not (r[1] < start or r[0] > end)]
        low = min([start, *(r[0] for r in touching)])
        high = max([end, *(r[1] for r in touching)])
        self._ranges = sorted([*apart, (low, high)])

    @property
    def total(self) -> int:
        """Bytes in all ranges."""
        return sum(end - start for start, end in self._ranges)

    @property
    def front(self) -> int:
        """Bytes from the beginning without a hole."""
        return self._ranges[0][1] if self._ranges and self._ranges[0][0] == 0 else 0

    def gaps(self, size: int) -> list[tuple[int, int]]:
        """What a file of `size` bytes lacks."""
        edges = [0, *(edge for span in self._ranges for edge in span), size]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


class _Journal(Struct, frozen=True):
    boot: str
    durable: int
    """Bytes from the beginning that were forced to the disk."""
    spans: list[tuple[int, int]]


def journal_of(part: Path) -> Path:
    """The journal's place beside its partial file."""
    return part.with_name(part.name + JOURNAL_SUFFIX)


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Names this run of the machine; "" where the system does not tell."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def write_journal(descriptor: int, spans: Spans, durable: int) -> None:
    """Note what is here, over what was noted before.

    Raises:
        OSError: the disk refuses.
    """
    text = msgspec.json.encode(_Journal(boot_id(), durable, list(spans)))
    os.pwrite(descriptor, text.ljust(_ROOM), 0)


def read_spans(part: Path, length: int) -> Spans:
    """What a partial file of `length` bytes holds: its journal's word, else all of it."""
    try:
        with journal_of(part).open("rb") as file:
            told = msgspec.json.decode(file.read(2 * _ROOM), type=_Journal)
    except FileNotFoundError:
        return Spans([(0, length)])
    except (OSError, msgspec.DecodeError):
        return Spans()
    if not told.boot or told.boot != boot_id():
        return Spans([(0, min(max(0, told.durable), length))])
    return Spans((max(0, start), min(end, length)) for start, end in told.spans)


def bytes_here(part: Path) -> int:
    """Bytes of a file that its partial one holds; 0 without one."""
    try:
        length = part.lstat().st_size
    except OSError:
        return 0
    return read_spans(part, length).total
