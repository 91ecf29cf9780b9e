"""Where a worker listens: a Unix socket, or loopback TCP with a challenge where there is none.

Owns the listening socket, the file that leads to it, and the challenge of the TCP kind. `NAME.sock`
is a socket, or, for TCP, a private file with the port and a key. Another program that has got the
port of a dead worker learns nothing: the worker proves first that it knows the key, then the client
does, each with an HMAC over fresh random bytes of both; no request is sent before.

    client: 32 random bytes
    worker: 32 random bytes, HMAC-SHA256(key, "worker" + the client's + its own)
    client: HMAC-SHA256(key, "client" + the client's + the worker's)

Refuses asyncio (client/dialing.py has that side) and frames.
"""

import hmac
import os
import secrets
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from llmchat.whole_file import write_whole

NONCE: Final = 32
PROOF: Final = 32
BACKLOG: Final = 128
LOOPBACK: Final = "127.0.0.1"
VARIABLE: Final = "LLMCHAT_TRANSPORT"
"""`tcp` forces loopback TCP, so that it is tested where there are Unix sockets, too."""


class Address(Struct, frozen=True, kw_only=True):
    """Where a worker listens on loopback, and what it must know."""

    port: int
    key: str
    """64 hex digits."""

    @property
    def secret(self) -> bytes:
        """The key as bytes."""
        return bytes.fromhex(self.key)


def wants_tcp(environ: Mapping[str, str]) -> bool:
    """Whether workers of this client listen on loopback TCP."""
    return environ.get(VARIABLE) == "tcp" or not hasattr(socket, "AF_UNIX")


def listen(path: Path, *, tcp: bool) -> socket.socket:
    """A new listening socket that `path` leads to; nothing may lie there.

    Raises:
        OSError: it cannot be.
    """
    return _listen_tcp(path) if tcp else _listen_unix(path)


def _listen_unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _listen_tcp(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_INET)
    try:
        sock.bind((LOOPBACK, 0))
        sock.listen(BACKLOG)
        address = Address(port=sock.getsockname()[1], key=secrets.token_hex(32))
        # Whole or not there: a client may look at any moment.
        write_whole(path, msgspec.json.encode(address), lasting=False)
    except OSError:
        sock.close()
        raise
    return sock


def read_address(path: Path) -> Address | None:
    """The address in a worker's file; None for a Unix socket, and where there is nothing of ours.

    A file of somebody else, or one that others may read, is nothing of ours.
    """
    with suppress(OSError, msgspec.MsgspecError, ValueError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            private = found.st_uid == os.getuid() and not found.st_mode & 0o077
            if stat.S_ISREG(found.st_mode) and private:
                address = msgspec.json.decode(file.read(4096), type=Address)
                return address if len(address.secret) == 32 else None
    return None


def proof(secret: bytes, who: bytes, client: bytes, worker: bytes) -> bytes:
    """What `who` (`b"client"` or `b"worker"`) proves its knowledge of the key with."""
    return hmac.digest(secret, who + client + worker, "sha256")


class Challenge:
    """The worker's side for one connection: bytes in, bytes out, until `passed`."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._client = b""
        self._worker = secrets.token_bytes(NONCE)
        self.passed = False

    def take(self, data: bytearray) -> bytes:
        """Use up what is there of `data`; returns what to send.

        Raises:
            PermissionError: the other side does not know the key.
        """
        answer = b""
        if not self._client:
            if len(data) < NONCE:
                return b""
            self._client = bytes(data[:NONCE])
            del data[:NONCE]
            said = proof(self._secret, b"worker", self._client, self._worker)
            answer = self._worker + said
        if len(data) >= PROOF:
            expected = proof(self._secret, b"client", self._client, self._worker)
            if not hmac.compare_digest(expected, bytes(data[:PROOF])):
                raise PermissionError
            del data[:PROOF]
            self.passed = True
        return answer
