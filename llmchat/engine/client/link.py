"""One connection to a worker, for asyncio: frames out, and every event to whoever waits for it.

Owns the socket, the reader task and one queue per request. When the connection ends, whoever waits
gets the same error at once. Refuses to find or start workers, and to judge how one died: it is told
by `autopsy`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from llmchat.engine.client.dialing import dial
from llmchat.engine.protocol import (
    Event,
    ProtocolError,
    Request,
    Welcome,
    decode_event,
    encode,
    take_frames,
)
from llmchat.errors import WorkerDied

Autopsy = Callable[["Link", ProtocolError | None], Awaitable[WorkerDied]]
"""Says how the worker at the other end ended; given what was unreadable, if something was."""

Waiting = asyncio.Queue[Event | WorkerDied]


_READ = 256 * 1024


class Link:
    """A connection. Make one with `connect`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, autopsy: Autopsy
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._autopsy = autopsy
        self._waiting: dict[int, Waiting] = {}
        self._last_id = 0
        self._closed = False
        self._lost = False
        self.life: Waiting = asyncio.Queue()
        """Events of no request: Welcome, Plan, Loading, Ready, LoadFailed; then how it ended."""
        self.welcome = Welcome()
        self.death: WorkerDied | None = None
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, path: Path, autopsy: Autopsy) -> "Link | None":
        """A link to whoever listens at `path`; None if nobody does."""
        streams = await dial(path)
        return None if streams is None else cls(*streams, autopsy)

    @property
    def alive(self) -> bool:
        """Neither closed by us nor ended by the other side."""
        return not self._closed and not self._lost

    @property
    def waiting(self) -> int:
        """Requests that have not been given back with `forget`."""
        return len(self._waiting)

    # asking

    def new_request(self) -> tuple[int, Waiting]:
        """A fresh id and the queue of its events. Give it back with `forget`."""
        self._last_id += 1
        queue: Waiting = asyncio.Queue()
        self._waiting[self._last_id] = queue
        if self.death is not None:
            queue.put_nowait(self.death)
        return self._last_id, queue

    def forget(self, request: int) -> None:
        """Its later events are dropped."""
        self._waiting.pop(request, None)

    def send(self, request: Request) -> None:
        """Write a frame; the system takes it when it can.

        Raises:
            ProtocolError: it is too large for a frame.
        """
        frame = encode(request)
        if self.alive:
            self._writer.write(frame)

    async def ask(self, make: Callable[[int], Request]) -> Event:
        """Send a request that has one answer, made for a fresh id, and wait for it.

        Raises:
            WorkerDied: the worker is gone.
        """
        number, queue = self.new_request()
        try:
            self.send(make(number))
            answer = await queue.get()
        finally:
            self.forget(number)
        if isinstance(answer, WorkerDied):
            raise fresh(answer)
        return answer

    # the reader

    async def _read(self) -> None:
        unreadable: ProtocolError | None = None
        data = bytearray()
        try:
            # Everything that is there at once: a reader that wakes for each frame of several
            # replies takes the cores from the threads that compute.
            while more := await self._reader.read(_READ):
                data += more
                for body in take_frames(data):
                    self._hand_out(decode_event(body))
        except OSError:
            pass
        except ProtocolError as error:
            unreadable = error
        if not self._closed:
            self._lost = True
            self._writer.close()
            self._end(await self._autopsy(self, unreadable))

    def _hand_out(self, event: Event) -> None:
        if isinstance(event, Welcome):
            self.welcome = event
        queue = self._waiting.get(event.id) if event.id else self.life
        if queue is not None:
            queue.put_nowait(event)

    def _end(self, death: WorkerDied) -> None:
        self.death = death
        for queue in (self.life, *self._waiting.values()):
            queue.put_nowait(death)

    async def aclose(self) -> None:
        """Close. Who still waits for an answer gets an error."""
        if not self._closed and self.death is None:
            self._end(WorkerDied("engine.closed"))
        self._closed = True
        self._writer.close()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        with suppress(OSError):
            await self._writer.wait_closed()


def fresh(death: WorkerDied) -> WorkerDied:
    """The same error again, without another waiter's traceback."""
    values = {name: value for name, value in death.values.items() if name != "signal"}
    return WorkerDied(death.key, signal=death.signal, last_lines=death.last_lines, **values)
