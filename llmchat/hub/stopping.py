"""Work that waits for the network, left at once when somebody says stop.

Owns two ways: a question is asked in a thread of its own, which is left behind (it ends with its
time-out); a stream is shut, so that whoever reads it returns. Refuses to know HTTP.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from llmchat.errors import Interrupted

T = TypeVar("T")
_POLL = 0.05


class _Question(Generic[T]):
    """One piece of work in a thread, and what came of it."""

    def __init__(self, work: Callable[[], T], dispose: Callable[[T], None]) -> None:
        self._work, self._dispose = work, dispose
        self._lock = threading.Lock()
        self._left = False
        self.done = threading.Event()
        self.result: list[T] = []
        self.problem: BaseException | None = None

    def run(self) -> None:
        with self:
            result = self._work()
            with self._lock:
                if not self._left:
                    self.result.append(result)
                    return
            self._dispose(result)

    def leave(self) -> None:
        with self._lock:
            self._left = True
            late = list(self.result)
        for result in late:
            self._dispose(result)

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, problem: BaseException | None, _trace: object) -> bool:
        self.problem = problem
        self.done.set()
        return True


def stoppable(
    work: Callable[[], T], *stops: threading.Event, dispose: Callable[[T], None] = lambda _: None
) -> T:
    """What `work` returns or raises. A result that comes after a stop is given to `dispose`.

    Raises:
        Interrupted: one of `stops` was set before `work` had ended.
    """
    question = _Question(work, dispose)
    threading.Thread(target=question.run, name="llmchat-question", daemon=True).start()
    while not question.done.wait(_POLL):
        if any(stop.is_set() for stop in stops):
            question.leave()
            raise Interrupted
    if question.problem is not None:
        raise question.problem
    return question.result[0]


class Unblocker:
    """Shuts the sockets that threads read from, when one of the events is set."""

    def __init__(self, *stops: threading.Event) -> None:
        self._stops = stops
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="llmchat-stop", daemon=True)

    def __enter__(self) -> "Unblocker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @contextmanager
    def reading(self, connection: object) -> Iterator[None]:
        """While inside, a stop shuts `connection`."""
        if not isinstance(connection, socket.socket):
            yield
            return
        with self._lock:
            self._sockets.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(connection)

    def _watch(self) -> None:
        while not self._over.wait(_POLL):
            if any(stop.is_set() for stop in self._stops):
                with self._lock:
                    for connection in self._sockets:
                        _shut(connection)


def _shut(connection: socket.socket) -> None:
    try:
        # Not an SSLSocket's own: that one takes its state away from under the reader.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        return  # closed already
