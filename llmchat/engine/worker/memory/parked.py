"""Sequences parked in RAM: the shelf right below the pool.

Owns a budget of bytes and who leaves when it is spent: the sequence that costs least to rebuild
for its size, older ones sooner. Refuses the pool and the disk.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from llmchat.engine.worker.memory.kinds import Kept, Kind
from llmchat.engine.worker.memory.trie import Trie

MOST: Final = 2 << 30
"""Bytes; a tenth of the free RAM where that is less."""
TAIL: Final = 32
"""Tokens that are worth a copy: with fewer behind the wanted ones, they are let go."""


def budget(free_ram: int) -> int:
    """Bytes for parked states on a machine with `free_ram` bytes."""
    return min(MOST, free_ram // 10)


class Parked:
    """A `Shelf` in RAM.

    Who leaves is GreedyDual-Size (Cao and Irani, 1997): worth is the tokens that would have to be
    read again, per byte, on top of the worth of what left last; so age counts without a clock.
    """

    def __init__(self, most: int, kind: Kind) -> None:
        self.most = most
        self.size = 0
        """Bytes in use; read from any thread."""
        self._kind = kind
        self._trie: Trie[Kept] = Trie()
        self._since: dict[Kept, float] = {}
        self._age = 0.0

    @property
    def origin(self) -> Literal["memory"]:
        """RAM counts as memory."""
        return "memory"

    def __len__(self) -> int:
        return len(self._since)

    def find(self, tokens: Sequence[int]) -> int:
        """How many leading tokens it could give."""
        return self._best(tokens)[1]

    def _best(self, tokens: Sequence[int], but: Kept | None = None) -> tuple[Kept | None, int]:
        found, most = None, 0
        for common, kept in self._trie.matches(tokens):
            if common <= most:
                break
            reached = kept.reach(self._kind, common)
            if reached > most and kept is not but:
                found, most = kept, reached
        return found, most

    def take(self, tokens: Sequence[int]) -> Kept | None:
        """The sequence with the longest prefix to spare; it stays when more hangs on it."""
        kept, reached = self._best(tokens)
        if kept is None:
            return None
        if len(kept.tokens) - reached < TAIL:
            self._remove(kept)
        else:
            self._since[kept] = self._age
        return kept

    def refused(self, kept: Kept) -> None:
        """Let it go."""
        if kept in self._since:
            self._remove(kept)

    def __iter__(self) -> Iterator[Kept]:
        """The last put first."""
        yield from list(self._since)[::-1]

    def put(self, kept: Kept) -> Sequence[Kept]:
        """Keep it, if need be in place of what is worth less."""
        if kept.size > self.most or not kept.tokens:
            return [kept]
        for old in self._contained(kept):
            self._remove(old)
        self._trie.place(kept, kept.tokens)
        self._since[kept] = self._age
        self.size += kept.size
        fallen = []
        while self.size > self.most:
            worst = min(self._since, key=self._worth)
            self._age = self._worth(worst)
            self._remove(worst)
            fallen.append(worst)
        return fallen

    def _contained(self, kept: Kept) -> list[Kept]:
        """Those that could give nothing which the new one cannot give."""
        return [
            old
            for common, old in self._trie.matches(kept.tokens)
            if common == len(old.tokens) and kept.reach(self._kind, common) == common
        ]

    def _worth(self, kept: Kept) -> float:
        _, elsewhere = self._best(kept.tokens, but=kept)
        return self._since[kept] + (len(kept.tokens) - elsewhere) / kept.size

    def _remove(self, kept: Kept) -> None:
        self._trie.remove(kept)
        del self._since[kept]
        self.size -= kept.size
