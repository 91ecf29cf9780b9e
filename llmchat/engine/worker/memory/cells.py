"""Where in the pool tokens lie: llama.cpp's own bookkeeping, mirrored, since it tells nobody.

Attention costs by the highest cell that is in use, so the table must know it. llama.cpp takes the
lowest free cells first (`llama_kv_cache::find_slot` starts at its head, and `seq_rm` pulls the head
down to the lowest cell it frees), which a heap repeats. Only policy depends on it: were it wrong,
a sequence would be moved too early or too late, and nothing else.
"""

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class Cells:
    """The cells of a unified pool: how many sequences share each, and how many of those run."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        """Cells that hold something; what is shared counts once."""
        self.active = 0
        """Cells that a running request holds."""
        self._sharers = bytearray(size)
        self._runners = bytearray(size)
        self._sharers_view: npt.NDArray[np.uint8] = np.frombuffer(self._sharers, np.uint8)
        self._runners_view: npt.NDArray[np.uint8] = np.frombuffer(self._runners, np.uint8)
        self._free: list[int] = []
        """A heap of the free cells below `_top`."""
        self._top = 0

    @property
    def free(self) -> int:
        """Cells that hold nothing."""
        return self.size - self.used

    @property
    def highest(self) -> int:
        """Cells that attention spans: up to the highest that holds something."""
        held = np.flatnonzero(self._sharers_view[: self._top])
        top = int(held[-1]) + 1 if held.size else 0
        if top < self._top:
            self._top = top
            self._free = [cell for cell in self._free if cell < top]
            heapq.heapify(self._free)
        return self._top

    def take(self, count: int) -> list[int]:
        """The cells of the next `count` tokens of a running sequence.

        Fewer when there are none left, which llama.cpp would have refused.
        """
        taken = []
        for _ in range(count):
            if self._free:
                cell = heapq.heappop(self._free)
            elif self._top < self.size:
                cell, self._top = self._top, self._top + 1
            else:
                break
            self._sharers[cell] = self._runners[cell] = 1
            taken.append(cell)
        self.used += len(taken)
        self.active += len(taken)
        return taken

    def share(self, cells: Sequence[int]) -> None:
        """One more running sequence holds `cells`."""
        self._sharers_view[_index(cells)] += 1
        self.wake(cells)

    def drop(self, cells: Sequence[int], *, running: bool) -> None:
        """A sequence holds `cells` no more."""
        index = _index(cells)
        if running:
            self.rest(cells)
        self._sharers_view[index] -= 1
        gone = index[self._sharers_view[index] == 0].tolist()
        self.used -= len(gone)
        for cell in gone:
            heapq.heappush(self._free, cell)

    def wake(self, cells: Sequence[int]) -> None:
        """A sequence that holds `cells` runs now."""
        index = _index(cells)
        self.active += int((self._runners_view[index] == 0).sum())
        self._runners_view[index] += 1

    def rest(self, cells: Sequence[int]) -> None:
        """A sequence that holds `cells` does not run any more."""
        index = _index(cells)
        self._runners_view[index] -= 1
        self.active -= int((self._runners_view[index] == 0).sum())

    def alone(self, cells: Sequence[int]) -> int:
        """How many of `cells` nobody else holds: what would become free without them."""
        return int((self._sharers_view[_index(cells)] == 1).sum())

    def lowest_without(self, cells: Sequence[int]) -> int:
        """What attention would span if the sequence with `cells` went to the lowest free ones."""
        held = self._sharers_view[: self._top].copy()
        held[_index(cells)] -= 1
        empty = np.flatnonzero(held == 0)
        rest = len(cells) - empty.size
        last = self._top + rest if rest > 0 else int(empty[len(cells) - 1]) + 1 if cells else 0
        others = np.flatnonzero(held)
        return max(last, int(others[-1]) + 1 if others.size else 0)


def _index(cells: Sequence[int]) -> npt.NDArray[np.intp]:
    return np.asarray(cells, np.intp)
