"""When what the worker remembers goes to the disk: left alone for a while, and on the way out.

Owns the times. Called on the inference thread between two steps; a call copies one state at most,
the rest happens on the writer's thread. Refuses what is worth a write (`memory/saved.py`).
"""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from llmchat.engine.disk import Folder, Shelf, Writer
from llmchat.engine.worker.memory import Kept, Parked, SequenceTable, Slot
from llmchat.engine.worker.memory.saved import Saved, usable
from llmchat.engine.worker.opening import Opened
from llmchat.engine.worker.ram import free_ram
from llmchat.errors import ConfigError

QUIET: Final = 30.0
"""Seconds after a sequence's last token."""
AGAIN: Final = 10.0
"""Seconds until what the writer had no room for is offered once more."""
LOOK: Final = 1.0
"""Seconds between two looks while others generate."""
FAREWELL: Final = 5.0
"""Seconds that leaving may take longer for it."""
CHUNK: Final = 1.0
"""Of them, those for what is just being read: it ends after a few MiB."""

Key = tuple[int, int]
"""A sequence of the pool and its release, or -1 and which of those in RAM."""


class Saver:
    """Looks for sequences that nobody has touched for a while."""

    def __init__(
        self,
        table: SequenceTable,
        saved: Saved,
        parked: Iterable[Kept] = (),
        *,
        size_of: Callable[[Slot], int],
        free_ram: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`size_of`: bytes of a sequence's state, without copying it."""
        self._table = table
        self._saved = saved
        self._parked = parked
        self._size_of = size_of
        self._free_ram = free_ram
        self._clock = clock
        self._due: dict[Key, float] = {}
        """When each should be saved; inf: it has been, or is not worth it."""
        self._next = 0.0

    def wait(self) -> float | None:
        """Seconds until `look` has something to do; None: not before somebody used the pool."""
        self._notice()
        due = min(self._due.values(), default=math.inf)
        return None if due == math.inf else max(0.0, due - self._clock())

    def look(self) -> None:
        """Save one sequence, if one has been quiet for long enough."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + LOOK
        for key, save in self._notice().items():
            if self._due[key] <= now:
                self._due[key] = math.inf if save() else now + AGAIN
                self._next = now  # the next may follow at the next step
                return

    def leave(self, seconds: float = FAREWELL) -> None:
        """The worker ends: write what is worth it, the last used first, as far as time allows."""
        until = self._clock() + seconds
        self._saved.reader.close(CHUNK)
        for save in self._notice().values():
            if self._clock() >= until:
                break
            if not save() and self._saved.writer.wait(until - self._clock()):
                save()  # once more, with nothing before it; the minute's bytes may be spent
        self._saved.writer.close(until - self._clock())

    def _notice(self) -> dict[Key, Callable[[], bool]]:
        """What is idle now, the last used first, and how to save it; notes since when it is."""
        found: dict[Key, Callable[[], bool]] = {}
        for slot in self._table.idle():
            if slot.tag:
                found[slot.seq, slot.used] = partial(self._save, slot)
        for kept in self._parked:
            if kept.tag:
                found[-1, id(kept)] = partial(self._save_parked, kept)
        now = self._clock()
        self._due = {key: self._due.get(key, now + QUIET) for key in found}
        return found

    def _save(self, slot: Slot) -> bool:
        """False: worth a write, but there is no room for it now."""
        if not self._saved.is_new(slot.tag, slot.tokens):
            return True
        size = self._size_of(slot)
        if not self._saved.may_hold(size):
            return True
        free = self._free_ram()  # 0: this system does not tell
        if not self._saved.writer.room_for(size) or size > free // 2 > 0:
            return False
        kept = self._table.snapshot(slot)
        return kept is None or self._saved.save(kept)

    def _save_parked(self, kept: Kept) -> bool:
        worth_it = self._saved.is_new(kept.tag, kept.tokens) and self._saved.may_hold(kept.size)
        return not worth_it or self._saved.save(kept)


def open_saver(path: Path, opened: Opened, pace: Callable[[], float]) -> Saver:
    """Put the folder of saved states below a loaded model's memory, and look after it.

    `pace`: seconds that reading a token takes here.
    """
    table, context = opened.table, opened.loaded.context
    folder = Folder(path)
    with suppress(OSError, ConfigError):  # a cache that cannot be used is one that is not there
        folder.sweep()
    shelf = Shelf(folder, opened.circumstances.digest, usable(table.kind))
    saved = Saved(shelf, Writer(shelf), table.kind, pace=pace)
    parked = next((place for place in table.shelves if isinstance(place, Parked)), ())
    table.shelves.append(saved)
    return Saver(
        table,
        saved,
        parked,
        size_of=lambda slot: context.state_size(slot.seq),
        free_ram=free_ram,
    )
