"""The bytes of one file until they are whole: written where they belong, then given their name.

Owns `blobs/<digest>.llmchat-part` and, while there are holes in it, its journal. Whoever uses it
holds the blob's lock; several threads may write. Refuses to publish what nobody has proven.
"""

import errno
import os
import stat
import threading
from types import TracebackType
from typing import Self

from llmchat.errors import HubError
from llmchat.hub.cache import RepoFolder, writable
from llmchat.hub.plan import PlannedFile
from llmchat.hub.spans import Spans, journal_of, read_spans, write_journal
from llmchat.whole_file import sync_folder

CHUNK = 1024 * 1024
_NOTE_EVERY = 256 * 1024
"""Bytes that may be written before the journal says so: a kill loses them."""


class PartFile:
    """A partial file, open for writing at any place."""

    def __init__(self, folder: RepoFolder, file: PlannedFile) -> None:
        self._folder = folder
        self.file = file
        self._path = folder.part(file.digest)
        self._lock = threading.Lock()
        self._journal: int | None = None
        self._unnoted = 0
        self._durable = 0
        self.descriptor = self._open()
        length = os.fstat(self.descriptor).st_size
        self._spans = read_spans(self._path, length)
        if length > file.size:  # of another time: no use
            self.start_again()
        elif self._spans.front != length:
            self._open_journal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._journal is not None:
            os.close(self._journal)
        os.close(self.descriptor)

    @property
    def here(self) -> int:
        """Bytes that are here, wherever they lie."""
        with self._lock:
            return self._spans.total

    @property
    def front(self) -> int:
        """Bytes from the beginning without a hole."""
        with self._lock:
            return self._spans.front

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return self.front == self.file.size

    def gaps(self) -> list[tuple[int, int]]:
        """What is missing, `[start, end)` in order."""
        with self._lock:
            return self._spans.gaps(self.file.size)

    @property
    def scattered(self) -> bool:
        """Whether something lies beyond a hole."""
        with self._lock:
            return self._spans.front != self._spans.total

    def _open(self) -> int:
        self._folder.prepare(self._path)
        with writable(self._path):
            descriptor = os.open(
                self._path,
                os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK,
                0o666,
            )
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return descriptor

    def _open_journal(self) -> None:
        """Keep track of holes from now on: before the first byte beyond one is written."""
        with writable(self._path):
            self._journal = os.open(
                journal_of(self._path),
                os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK,
                0o666,
            )
            self._durable = min(self._durable, self._spans.front)
            write_journal(self._journal, self._spans, self._durable)

    def start_again(self) -> None:
        """Forget every byte."""
        with self._lock, writable(self._path):
            os.ftruncate(self.descriptor, 0)
            self._spans = Spans()
            self._durable = 0
            if self._journal is not None:
                write_journal(self._journal, self._spans, 0)

    def write(self, place: int, piece: bytes) -> None:
        """Put a piece where it belongs. What a full disk took of it is kept.

        Raises:
            HubError: the disk refuses, or the piece goes beyond the file's end.
        """
        if place + len(piece) > self.file.size:
            raise HubError("hub.too_long", file=self.file.path, size=self.file.size)
        with self._lock:
            if self._journal is None and place > self._spans.front:
                self._open_journal()
        view = memoryview(piece)
        while view:
            try:
                written = os.pwrite(self.descriptor, view, place)
                self._came(place, written)
            except OSError as error:
                raise self._write_error(error) from error
            place += written
            view = view[written:]

    def _came(self, place: int, count: int) -> None:
        with self._lock:
            self._spans.add(place, place + count)
            self._unnoted += count
            if self._journal is not None and self._unnoted >= _NOTE_EVERY:
                write_journal(self._journal, self._spans, self._durable)
                self._unnoted = 0

    def make_durable(self, front: int) -> None:
        """Force the first `front` bytes to the disk, where a journal needs to know them there."""
        if self._journal is None:
            return
        with writable(self._path):
            os.fsync(self.descriptor)
            with self._lock:
                self._durable = front
                write_journal(self._journal, self._spans, front)

    def settle(self) -> None:
        """Note what is here, before it is left for another time.

        Raises:
            HubError: the disk refuses.
        """
        with self._lock, writable(self._path):
            if self._journal is not None:
                write_journal(self._journal, self._spans, self._durable)

    def _write_error(self, error: OSError) -> HubError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return HubError(
                "hub.disk_full",
                recoverable=True,
                done=f"{self.here / 1e6:,.1f} MB",
                size=f"{self.file.size / 1e6:,.1f} MB",
                path=str(self._path.parent),
            )
        return HubError("hub.unwritable", path=str(self._path), reason=error.strerror or str(error))

    def publish(self, got: str) -> None:
        """Give the content its name, when `got` proves it. Then it is a model like any other.

        Raises:
            HubError: the hash is another; the bytes are thrown away.
        """
        with writable(self._path):
            # Whole by now: without a journal the part says the same.
            journal_of(self._path).unlink(missing_ok=True)
        if got != self.file.digest:
            self._path.unlink(missing_ok=True)
            raise HubError(
                "hub.checksum",
                recoverable=True,
                file=self.file.path,
                want=self.file.digest,
                got=got,
            )
        blob = self._folder.blob(self.file.digest)
        with writable(self._path):
            os.fsync(self.descriptor)
            self._path.replace(blob)
            sync_folder(blob.parent)
