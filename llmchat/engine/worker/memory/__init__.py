"""What the worker remembers: sequences in the pool, and those that left it.

    sequences.py    the pool's sequences: their books, and what is done to each
    table.py        which of them a prompt goes on in: taken over, copied, brought back
    leaving.py      which of them leaves the pool, or moves to its lower end, and when
    trie.py         who shares how long a beginning with a prompt
    cells.py        which cells of the pool are in use: what attention spans
    kinds.py        what a model's memory allows, and the one rule of reuse
    checkpoints.py  where a memory that cannot be cut is taken up again
    shelf.py        the seam to what lies outside the pool: parked.py is in RAM, saved.py on disk

One lookup, several places: `SequenceTable.open` asks its trie and then each `Near` shelf how many
leading tokens of the prompt it has (`find`), and brings the state back (`take`) from the one that
has at least 16 more than the pool. A sequence that leaves the pool is offered to the first shelf
(`put`); what has no room there falls to the next. A disk is the shelf at the end of
`SequenceTable.shelves`, and `Far`: `SequenceTable.far` says that it has more of a prompt than
memory, `fetch` reads it on another thread (`engine/worker/fetching.py`), and `open` is given what
came. `SequenceTable.idle` and `snapshot` are for saving what is still warm.
"""

from llmchat.engine.worker.memory.kinds import Checkpoint, Kept, Kind, Memory
from llmchat.engine.worker.memory.parked import Parked, budget
from llmchat.engine.worker.memory.sequences import Slot
from llmchat.engine.worker.memory.shelf import Far, Near, Shelf
from llmchat.engine.worker.memory.table import SequenceTable

__all__ = [
    "Checkpoint",
    "Far",
    "Kept",
    "Kind",
    "Memory",
    "Near",
    "Parked",
    "SequenceTable",
    "Shelf",
    "Slot",
    "budget",
]
