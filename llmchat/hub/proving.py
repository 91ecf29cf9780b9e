"""The hash of a file, taken while it comes: a thread that follows the first hole.

Owns the proof of content. It reads what lies on the disk, so that what was written is what is
proven, also of what an earlier run left. Hashing lets go of the interpreter: bytes go on coming.
"""

import hashlib
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from llmchat.errors import HubError, Interrupted
from llmchat.hub.partfile import CHUNK, PartFile

_POLL = 0.05
_DURABLE_EVERY = 64 * CHUNK
"""Bytes after which a file with holes is forced to the disk."""


class Prover:
    """Hashes a part's bytes in order as they come. A context manager: its thread ends with it."""

    def __init__(self, part: PartFile) -> None:
        self._part = part
        self._changed = threading.Condition()
        self._again = False
        self._over = False
        self._problem: OSError | HubError | None = None
        self.position = 0
        """Bytes hashed."""
        self._hash = _new_hash(part)
        self._thread = threading.Thread(target=self._follow, name="llmchat-proof", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join()

    def start_again(self) -> None:
        """The part has forgotten every byte."""
        with self._changed:
            self._again = True

    def finish(self, on_bytes: Callable[[int], None], stop: threading.Event) -> str:
        """The hash of the whole file; `on_bytes` is told how far it is.

        Raises:
            Interrupted: stopped. HubError: the disk cannot be read.
        """
        while self._thread.is_alive() and self._problem is None:
            with self._changed:
                self._changed.notify_all()
                if self.position == self._part.file.size and not self._again:
                    return self._hash.hexdigest()
                self._changed.wait(_POLL)
            on_bytes(self.position)
            if stop.is_set():
                raise Interrupted
        reason = str(self._problem)
        raise HubError("hub.unwritable", path=self._part.file.path, reason=reason)

    def _follow(self) -> None:
        durable = 0
        try:
            while self._wait():
                piece = self._read()
                if piece and self._take(piece) and self.position - durable >= _DURABLE_EVERY:
                    durable = self.position
                    self._part.make_durable(durable)
        except (OSError, HubError) as error:
            self._problem = error

    def _wait(self) -> bool:
        """Wait for bytes to hash; False at the end."""
        with self._changed:
            while not self._over:
                if self._again:
                    self._again, self.position, self._hash = False, 0, _new_hash(self._part)
                behind = self._part.front - self.position
                if behind >= CHUNK or (behind > 0 and self._part.whole):
                    return True
                self._changed.wait(_POLL)
        return False

    def _read(self) -> bytes:
        count = min(CHUNK, self._part.front - self.position)
        return os.pread(self._part.descriptor, max(0, count), self.position)

    def _take(self, piece: bytes) -> bool:
        self._hash.update(piece)
        with self._changed:
            if self._again:
                return False
            self.position += len(piece)
            if self.position == self._part.file.size:
                self._changed.notify_all()
        return True


def _new_hash(part: PartFile) -> "hashlib._Hash":
    if len(part.file.digest) == 64:
        return hashlib.sha256()
    # Git names a blob by the sha1 of a small header and the content.
    return hashlib.sha1(b"blob %d\0" % part.file.size, usedforsecurity=False)
