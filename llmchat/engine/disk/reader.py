"""Reading in front of the inference thread: a state is in memory, and checked, when it is wanted.

Owns the thread that reads, one state at a time, and giving up what nobody wants any more. Refuses
what is worth a read and what becomes of it.
"""

import threading
from collections.abc import Callable

from llmchat.engine.disk.entry import Found
from llmchat.engine.disk.shelf import Candidate

Read = Callable[[Candidate, Callable[[], bool]], Found | None]
"""`Shelf.read`: a candidate, and whether nobody wants it any more, to its state."""
Ready = Callable[[Found | None], None]


class Reader:
    """A worker's reading thread. All but what it calls is for the inference thread."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._thread: threading.Thread | None = None
        self._unwanted = threading.Event()

    def start(self, candidate: Candidate, ready: Ready) -> None:
        """Read a state; the one before must be ready.

        `ready` is called once, on another thread, with what `Shelf.read` gave.

        Raises:
            RuntimeError: the system has no thread to give.
        """
        unwanted = threading.Event()
        thread = threading.Thread(
            target=self._work, args=(candidate, ready, unwanted), name="kv-reader", daemon=True
        )
        thread.start()
        self._thread, self._unwanted = thread, unwanted

    def _work(self, candidate: Candidate, ready: Ready, unwanted: threading.Event) -> None:
        found = None
        try:
            found = self._read(candidate, unwanted.is_set)
        finally:  # whatever broke, somebody waits
            ready(found)

    def give_up(self) -> None:
        """Nobody wants what is read: it is over soon, and `ready` is called all the same."""
        self._unwanted.set()

    def close(self, seconds: float) -> bool:
        """Give up what is read. False: the thread did not end within `seconds`."""
        self.give_up()
        if self._thread is None:
            return True
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()
