"""A unified pool that keeps what llama.cpp keeps: which token lies at which position of whom.

`kind` makes it a sliding window, recurrent or hybrid: what such a memory would lose, it loses, and
`right` says whether the next row of a sequence would be computed from what it should be.
"""

import json

import numpy as np

from llmchat.engine.worker.memory.kinds import Bytes, Kind

PARTIAL_ONLY = 1


class Pool:
    """Cells that each hold a position and a token and belong to some sequences."""

    def __init__(self, n_cells: int, n_seq_max: int, kind: Kind) -> None:
        self.kind = kind
        self.n_seq_max = n_seq_max
        self.cells: list[tuple[int, int, set[int]] | None] = [None] * n_cells
        self.recurrent: dict[int, list[int]] = {}
        """What a recurrent state has seen."""
        self.window: dict[int, dict[int, int]] = {}
        """Position to token of what the sliding window's cells hold."""

    @property
    def used(self) -> int:
        return sum(cell is not None for cell in self.cells)

    @property
    def highest(self) -> int:
        return max((place + 1 for place, cell in enumerate(self.cells) if cell), default=0)

    def held(self, seq: int) -> dict[int, int]:
        """Position to token of the sequence's full cells."""
        return {cell[0]: cell[1] for cell in self.cells if cell and seq in cell[2]}

    def decode(self, seq: int, tokens: list[int], start: int) -> bool:
        """Compute rows. False: no room, nothing changed."""
        if self.kind.cells:
            free = [place for place, cell in enumerate(self.cells) if cell is None]
            if len(free) < len(tokens):
                return False
            for offset, token in enumerate(tokens):
                self.cells[free[offset]] = (start + offset, token, {seq})
        if self.kind.whole_only:
            self.recurrent.setdefault(seq, []).extend(tokens)
        if self.kind.n_swa:
            window = self.window.setdefault(seq, {})
            window.update({start + offset: token for offset, token in enumerate(tokens)})
            late = start + len(tokens) - self.kind.n_swa - 3
            first = 0 if self.kind.swa_full else late
            self.window[seq] = {at: token for at, token in window.items() if at >= first}
        return True

    def right(self, seq: int, tokens: list[int]) -> bool:
        """Whether what comes after `tokens` would be computed from them."""
        if self.kind.cells and self.held(seq) != dict(enumerate(tokens)):
            return False
        if self.kind.whole_only and self.recurrent.get(seq, []) != tokens:
            return False
        if self.kind.n_swa:
            window = self.window.get(seq, {})
            first = max(0, len(tokens) - self.kind.n_swa)
            wanted = {at: tokens[at] for at in range(first, len(tokens))}
            if any(window.get(at) != token for at, token in wanted.items()):
                return False
            return not any(at >= len(tokens) for at in window)
        return True

    def seq_rm(self, seq: int, start: int = -1, end: int = -1) -> bool:
        start = max(0, start)
        assert end == -1
        if self.kind.whole_only:
            seen = self.recurrent.get(seq, [])
            if 0 < start < len(seen):
                return False
            if start == 0:
                self.recurrent.pop(seq, None)
        for place, cell in enumerate(self.cells):
            if cell and seq in cell[2] and cell[0] >= start:
                cell[2].discard(seq)
                if not cell[2]:
                    self.cells[place] = None
        window = self.window.get(seq, {})
        self.window[seq] = {at: token for at, token in window.items() if at < start}
        return True

    def seq_cp(self, source: int, target: int, end: int) -> None:
        assert 0 <= target < self.n_seq_max
        assert not self.held(target)
        for cell in self.cells:
            if cell and source in cell[2] and cell[0] < end:
                cell[2].add(target)
        if self.kind.whole_only:
            self.recurrent[target] = list(self.recurrent.get(source, []))
        window = self.window.get(source, {})
        self.window[target] = {at: token for at, token in window.items() if at < end}

    def pos_min(self, seq: int) -> int:
        held = self.window.get(seq, {}) if self.kind.n_swa else self.held(seq)
        return min(held, default=-1)

    def state(self, seq: int, flags: int = 0) -> Bytes | None:
        full = {} if flags & PARTIAL_ONLY else self.held(seq)
        window = self.window.get(seq, {})
        first = max(window, default=0) + 1 - self.kind.n_swa  # whatever the pool holds
        seen = sorted((at, token) for at, token in window.items() if at >= first)
        data = [sorted(full.items()), self.recurrent.get(seq, []), seen]
        return np.frombuffer(json.dumps(data).encode(), np.uint8).copy()

    def restore(self, seq: int, data: Bytes, flags: int = 0) -> bool:
        full, recurrent, window = json.loads(bytes(data))
        if not flags & PARTIAL_ONLY and self.kind.cells:
            self.seq_rm(seq)
            free = [place for place, cell in enumerate(self.cells) if cell is None]
            if len(free) < len(full):
                return False
            for place, (position, token) in zip(free, full, strict=False):
                self.cells[place] = (position, token, {seq})
        if self.kind.whole_only:
            self.recurrent[seq] = list(recurrent)
        if self.kind.n_swa:
            self.window[seq] = dict(map(tuple, window))
        return True
