"""The shell of a worker: everything about being a process with a socket, and no llama.cpp.

The shell's thread (the main one) accepts, reads, answers what is not inference, writes, and decides
when to leave; the inference thread (inference.py) computes and hands events to outboxes, and never
writes to a socket. The listening socket and the held lock come from the starter, so that a client
may connect before Python is up.
"""

import contextlib
import math
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from llmchat.engine.assignment import LEFT, Assignment, Leaving
from llmchat.engine.backend import Backend
from llmchat.engine.protocol import Event, Facts, LoadFailed, Loading, Plan, ProtocolError, Ready
from llmchat.engine.shell.connections import Connection, own_uid
from llmchat.engine.shell.inference import Inference
from llmchat.engine.shell.keepalive import KeepAlive
from llmchat.engine.shell.outbox import Outbox
from llmchat.engine.shell.reception import Reception
from llmchat.engine.transport import Challenge, read_address

_NO_DESCRIPTOR = 0.05
_WATCH = 1.0
"""How often to look at what only time changes: a client that does not read, a stuck backend."""


def _secret(listener: socket.socket, path: Path) -> bytes:
    """The key that clients must know; none is needed on a Unix socket.

    Raises:
        OSError: the file with the key is gone: nobody could connect.
    """
    if listener.family == socket.AF_UNIX:
        return b""
    address = read_address(path)
    if address is None:
        raise OSError(f"no key in {path.name}")
    return address.secret


class Shell:
    """The shell's thread. Construct and `serve` on the main thread."""

    def __init__(self, backend: Backend, assignment: Assignment, listener: socket.socket) -> None:
        now = time.monotonic()
        self.assignment = assignment
        self.backend = backend
        self.limits = assignment.limits
        self.keep_alive = KeepAlive(assignment.keep_alive, now)
        self.connections: dict[int, Connection] = {}
        self._dropped: list[Connection] = []
        """Their clients are gone; what they had running was cancelled and has not ended."""
        self.facts: Facts | None = None
        self.plan: Plan | None = None
        self.last_loading = Loading(fraction=0.0, stage="plan")
        self.hung = False
        self.inference = Inference(backend, assignment, self, self.post)
        self._reception = Reception(self)
        self._listener = listener
        self._path = Path(assignment.run) / f"{assignment.name}.sock"
        self._secret = _secret(listener, self._path)
        self._inode = self._find_inode()
        self._selector = selectors.DefaultSelector()
        self._posted: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = socket.socketpair()
        self._woken = False
        self._numbers = 0
        self._alone_since = now
        self._next_check = now + self.limits.socket_check
        self._last_step, self._last_moved = -1, now
        self._leaving: Leaving | None = None
        self._leave_by = math.inf
        self._ended = False

    # from any thread

    def post(self, action: Callable[[], None]) -> None:
        """Run `action` on the shell's thread soon."""
        self._posted.append(action)
        self.wake()

    def wake(self) -> None:
        """Make the shell's thread look around."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(OSError):
                self._wake_write.send(b"\0")

    # the loop

    def serve(self) -> int:
        """Serve until it is time to leave; returns the exit code."""
        signal.signal(signal.SIGTERM, lambda *_: self.post(self._told_to_leave))
        for sock in (self._listener, self._wake_read, self._wake_write):
            sock.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._awake)
        try:
            while not self._over():
                for key, events in self._selector.select(self._patience()):
                    key.data(events)
                self._run_posted()
                self._flush()
                self._look_around(time.monotonic())
        finally:
            self._close()
        return int(self._leaving if self._leaving is not None else Leaving.CLEAN)

    def _over(self) -> bool:
        if self._leaving is None:
            return False
        if self._ended or not self.inference.started:
            return time.monotonic() > self._leave_by or not any(
                connection.unsent for connection in self.connections.values()
            )
        self.hung = time.monotonic() > self._leave_by
        return self.hung

    def _patience(self) -> float:
        now = time.monotonic()
        until = min(
            now if self._posted else self._next_check,
            self._leave_by,
            self.keep_alive.leaves_at(busy=self.busy),
            self._orphaned_at(),
            min((c.look_at(now) for c in self.connections.values()), default=math.inf),
            self._distrusted_at(),
            now + _WATCH if self._unsent() or self._abandoned() else math.inf,
        )
        return min(3600.0, max(0.0, until - now))

    def _awake(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)
        self._woken = False

    def _run_posted(self) -> None:
        for _ in range(len(self._posted)):
            self._posted.popleft()()

    # connections

    def _accept(self, _events: int) -> None:
        try:
            sock, _address = self._listener.accept()
        except BlockingIOError:
            return  # gone before we came
        except OSError:
            time.sleep(_NO_DESCRIPTOR)  # none left: nothing to do but wait for one
            return
        unix = self._listener.family == socket.AF_UNIX
        if len(self.connections) >= self.limits.connections or (unix and not own_uid(sock)):
            sock.close()
            return
        if not unix:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._numbers += 1
        outbox = Outbox(self.limits.outbox_bytes, self.wake)
        connection = Connection(
            self._numbers,
            sock,
            outbox,
            ended=self._request_ended,
            challenge=None if unix else Challenge(self._secret),
        )
        connection.opened = connection.last_sent = time.monotonic()
        self.connections[connection.number] = connection
        self._selector.register(
            sock, selectors.EVENT_READ, lambda events: self._serve_one(connection, events)
        )

    def _serve_one(self, connection: Connection, events: int) -> None:
        if connection.number not in self.connections or not events & selectors.EVENT_READ:
            return  # writable: _flush follows
        try:
            open_still = connection.receive()
            for body in connection.frames():
                self._reception.take(connection, body)
        except ProtocolError as error:
            self._log(f"llmchat: closed a connection: {error}")
            open_still = False
        except MemoryError:  # this client asks too much of us; the others go on
            self._log("llmchat: closed a connection: MemoryError")
            open_still = False
        if not open_still:
            self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Let a client go; what it asked for is cancelled."""
        if self.connections.pop(connection.number, None) is None:
            return
        self._selector.unregister(connection.sock)
        connection.close()
        self._dropped.append(connection)
        self.keep_alive.left(connection.number)
        self._alone_since = time.monotonic()

    def _flush(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections.values()):
            stalled = (
                connection.unsent
                and connection.running
                and now - connection.last_sent > self.limits.unread
            )
            if connection.outbox.overflown or stalled or not connection.send(now):
                self.drop(connection)
                continue
            stuck = connection.stuck(now)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if stuck else 0)
            key = self._selector.get_key(connection.sock)
            if key.events != events:
                self._selector.modify(connection.sock, events, key.data)

    def _unsent(self) -> bool:
        return any(connection.unsent for connection in self.connections.values())

    def broadcast(self, event: Event) -> None:
        """To every client that has greeted."""
        for connection in self.connections.values():
            if connection.greeted:
                connection.outbox.put(event)

    # what the inference thread tells

    def on_plan(self, plan: Plan) -> None:
        """Ask whoever waits whether to go on."""
        self.plan = plan
        self.broadcast(plan)

    def on_loading(self, loading: Loading) -> None:
        """Pass it on, and keep it for those who come later."""
        self.last_loading = loading
        self.broadcast(loading)

    def on_ready(self, facts: Facts) -> None:
        """Requests are taken from now on."""
        self.facts = facts
        self.keep_alive.touched(time.monotonic())
        self.broadcast(Ready(facts=facts))

    def on_load_failed(self, failure: LoadFailed) -> None:
        """Say so, and leave."""
        self.broadcast(failure)
        self.leave(Leaving.LOAD_FAILED, failure.message)

    def on_ended(self, clean: bool) -> None:
        """The inference thread is done: by our wish, or by a crash of its own."""
        self._ended = True
        if clean:
            self.leave(Leaving.CLEAN, "the backend has ended")
        else:
            self._leaving, self._leave_by = Leaving.CRASHED, 0.0
            self.leave(Leaving.CRASHED, "")

    def _request_ended(self) -> None:
        self.post(lambda: self.keep_alive.touched(time.monotonic()))

    # leaving

    def _told_to_leave(self) -> None:
        self.leave(Leaving.CLEAN, "SIGTERM")

    def idle_seconds(self) -> float:
        """Since the last request ended; 0 while busy."""
        return 0.0 if self.busy else time.monotonic() - self.keep_alive.last_request

    @property
    def busy(self) -> bool:
        """A request has not ended: its client will hear more, or would have.

        Counted where the answers pass: whoever has read the last of them is not told that the
        worker is busy with it.
        """
        return any(c.running for c in self.connections.values()) or self._ending()

    @property
    def leaving(self) -> bool:
        """No new requests."""
        return self._leaving is not None

    def leave(self, code: Leaving, why: str) -> None:
        """Stop listening, take the socket away (we hold its lock), and end what runs."""
        if self._leaving is None:
            if code is not Leaving.CRASHED:
                self._log(f"{LEFT}{why}")
            self._leaving = code
            self._leave_by = time.monotonic() + self.limits.farewell
        if self._listener.fileno() >= 0:
            self._selector.unregister(self._listener)
            if self._inode is not None and self._find_inode() == self._inode:
                self._path.unlink(missing_ok=True)
            self._listener.close()
            self.inference.stop()
        self.wake()

    def _distrusted_at(self) -> float:
        """When the first client that does not prove itself will be let go."""
        strangers = (c.opened for c in self.connections.values() if not c.trusted)
        return min(strangers, default=math.inf) + self.limits.challenge

    def _look_around(self, now: float) -> None:
        if now >= self._distrusted_at():
            for connection in [c for c in self.connections.values() if not c.trusted]:
                if now >= connection.opened + self.limits.challenge:
                    self.drop(connection)
        if self._leaving is not None:
            return
        if now >= self._next_check:
            self._next_check = now + self.limits.socket_check
            if self._find_inode() != self._inode and not self.busy:
                self.leave(Leaving.CLEAN, "the socket is gone")
                return
        if self.facts is not None and now >= self.keep_alive.leaves_at(busy=self.busy):
            self.leave(Leaving.CLEAN, "idle")
        elif now >= self._orphaned_at():
            self.leave(Leaving.CLEAN, "nobody waits for the load")
        elif self._stuck(now):
            self.leave(Leaving.HUNG, "what nobody waits for does not end")

    def _orphaned_at(self) -> float:
        """When to give up a load that nobody waits for."""
        if self.facts is not None or self.keep_alive.clients or self._leaving is not None:
            return math.inf
        started = self.inference.started
        return self._alone_since + (
            self.limits.orphaned_load if started else self.limits.first_client
        )

    def _abandoned(self) -> bool:
        """Busy with what was cancelled when the last client went."""
        return self.facts is not None and not self.connections and self._ending()

    def _ending(self) -> bool:
        self._dropped = [connection for connection in self._dropped if connection.running]
        return bool(self._dropped)

    def _stuck(self, now: float) -> bool:
        """Abandoned, and not moving any more."""
        if not self._abandoned():
            self._last_step, self._last_moved = -1, now
            return False
        step = self.backend.status().step
        if step != self._last_step:
            self._last_step, self._last_moved = step, now
        return now - self._last_moved > self.limits.stuck

    def _find_inode(self) -> tuple[int, int] | None:
        try:
            found = self._path.lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _close(self) -> None:
        for connection in list(self.connections.values()):
            self.drop(connection)
        self._selector.close()
        for sock in (self._listener, self._wake_read, self._wake_write):
            sock.close()

    def _log(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
