"""One client's connection as the worker sees it: bytes in, frames out, and what it has running.

Everything here runs on the shell's thread, except `Outbox.put` and the end of a request, which the
inference thread reports. Refuses to know what requests mean: the shell is told of them.
"""

import math
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator

from llmchat.engine.backend import Emit
from llmchat.engine.protocol import (
    Delta,
    Event,
    Failed,
    Finished,
    PromptProgress,
    ProtocolError,
    Queued,
    take_frames,
)
from llmchat.engine.shell.outbox import Outbox
from llmchat.engine.transport import Challenge

_READ = 256 * 1024
_SEND = 256 * 1024
_CONTINUES = (Queued, PromptProgress, Delta)


def peer_uid(sock: socket.socket) -> int:
    """The user id at the other end of a connected Unix socket."""
    if sys.platform == "darwin":
        # struct xucred: version, uid, ... (sys/ucred.h); SOL_LOCAL 0, LOCAL_PEERCRED 1
        return int(struct.unpack_from("II", sock.getsockopt(0, 1, 76))[1])
    size = struct.calcsize("3i")
    uid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1]
    return uid


class Connection:
    """A socket with its buffers. Non-blocking."""

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        outbox: Outbox,
        *,
        ended: Callable[[], None],
        challenge: Challenge | None = None,
    ) -> None:
        self.number = number
        self.sock = sock
        self.outbox = outbox
        self.client = ""
        """What Hello said; empty before it, and for those who only ask for the status."""
        self.greeted = False
        self.opened = 0.0
        self.last_sent = 0.0
        """When the client last read something, or had nothing to read."""
        self._ended = ended
        self._challenge = challenge
        self._in = bytearray()
        self._out = bytearray()
        self._lock = threading.Lock()
        self._running: dict[int, int] = {}
        self._cancels: dict[int, Callable[[], None]] = {}

    # what runs for this client

    @property
    def running(self) -> bool:
        """Some request of this client has not ended."""
        return bool(self._running)

    def begin(self, request: int, ends: int) -> Emit | None:
        """Note a request that ends after `ends` final events; None if its id is in use."""
        with self._lock:
            if request in self._running:
                return None
            self._running[request] = ends

        def emit(event: Event) -> None:
            self._report(request, event)

        return emit

    def cancellable(self, request: int, cancel: Callable[[], None]) -> None:
        """Remember how to stop a request, unless it ended already."""
        with self._lock:
            if request in self._running:
                self._cancels[request] = cancel

    def cancel(self, request: int) -> None:
        """Stop a request; unknown and ended ones do not matter."""
        cancel = self._cancels.get(request)
        if cancel is not None:
            cancel()

    def _report(self, request: int, event: Event) -> None:
        with self._lock:
            left = self._running.get(request)
            if left is None:
                return  # late, or from a request that has failed
            over = False
            if not isinstance(event, _CONTINUES):
                over = left <= 1 or not isinstance(event, Finished) or isinstance(event, Failed)
                self._running[request] = left - 1
            if over:
                del self._running[request]
                self._cancels.pop(request, None)
            self.outbox.put(event)
        if over:
            self._ended()

    # bytes

    def receive(self) -> bool:
        """Read what there is. False = the client is gone."""
        try:
            data = self.sock.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        self._in += data
        return bool(data)

    def frames(self) -> Iterator[bytes]:
        """The whole frames read so far, without their lengths.

        Raises:
            ProtocolError: a length that no frame has, or the other side does not know the key.
        """
        if not self.trusted:
            self._meet_challenge()
        if self.trusted:
            yield from take_frames(self._in)

    @property
    def trusted(self) -> bool:
        """Its requests may be read."""
        return self._challenge is None or self._challenge.passed

    def _meet_challenge(self) -> None:
        assert self._challenge is not None
        try:
            self._out += self._challenge.take(self._in)
        except PermissionError as error:
            raise ProtocolError("engine.bad_frame", reason="wrong key") from error

    def send(self, now: float) -> bool:
        """Write what is due and the client takes. False = the client is gone."""
        try:
            while self._fill(now):
                sent = self.sock.send(self._out)
                del self._out[:sent]
                self.last_sent = now
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        self.last_sent = now
        return True

    def _fill(self, now: float) -> bool:
        while len(self._out) < _SEND and (self._out or self.outbox.due(now)):
            frame = self.outbox.take()
            if not frame:
                break
            self._out += frame
        return bool(self._out)

    def look_at(self, now: float) -> float:
        """When text that waits for more will be due; infinity if the socket must tell instead."""
        return math.inf if self._out else self.outbox.look_at(now)

    def stuck(self, now: float) -> bool:
        """Something is due that the client has not taken."""
        return bool(self._out) or self.outbox.due(now)

    @property
    def unsent(self) -> bool:
        """Something waits for the client to read."""
        return bool(self._out) or not self.outbox.empty

    def close(self) -> None:
        """Let go, and cancel everything that runs for this client."""
        self.outbox.close()
        with self._lock:
            cancels = list(self._cancels.values())
        for cancel in cancels:
            cancel()
        self.sock.close()


def own_uid(sock: socket.socket) -> bool:
    """Whether the other end of a Unix socket is this user."""
    try:
        return peer_uid(sock) == os.getuid()
    except OSError:
        return False
