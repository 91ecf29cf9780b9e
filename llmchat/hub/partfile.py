"""The bytes of one file until they are whole: appended, hashed as they come, proven, published.

Owns `blobs/<digest>.llmchat-part`. Whoever uses it holds the blob's lock. Refuses to publish
anything whose hash is not the one that was asked for.
"""

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from llmchat.errors import HubError, Interrupted
from llmchat.hub.cache import RepoFolder, sync_folder, writable
from llmchat.hub.plan import PlannedFile

CHUNK = 1024 * 1024


class PartFile:
    """A partial file, open for appending. `length` bytes of it are hashed."""

    def __init__(self, folder: RepoFolder, file: PlannedFile) -> None:
        self._folder = folder
        self._file = file
        self._path = folder.part(file.digest)
        self.length = 0
        self._descriptor = self._open()
        self._hash = self._new_hash()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

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

    def _new_hash(self) -> "hashlib._Hash":
        if len(self._file.digest) == 64:
            return hashlib.sha256()
        # Git names a blob by the sha1 of a small header and the content.
        return hashlib.sha1(b"blob %d\0" % self._file.size, usedforsecurity=False)

    def read_back(self, on_bytes: Callable[[int], None], stop: threading.Event) -> None:
        """Hash what an earlier pull left; more than the file's size cannot be of use.

        Raises:
            Interrupted: stopped.
        """
        if os.fstat(self._descriptor).st_size > self._file.size:
            self.start_again()
            return
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        while piece := os.read(self._descriptor, CHUNK):
            if stop.is_set():
                raise Interrupted
            self._hash.update(piece)
            self.length += len(piece)
            on_bytes(self.length)

    def start_again(self) -> None:
        """Forget every byte."""
        with writable(self._path):
            os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.length = 0
        self._hash = self._new_hash()

    def append(self, piece: bytes) -> None:
        """Write a piece at the end. What a full disk took of it is kept.

        Raises:
            HubError: the disk is full, or the piece goes beyond the file's end.
        """
        if self.length + len(piece) > self._file.size:
            raise HubError("hub.too_long", file=self._file.path, size=self._file.size)
        view = memoryview(piece)
        while view:
            try:
                written = os.write(self._descriptor, view)
            except OSError as error:
                raise self._write_error(error) from error
            self._hash.update(view[:written])
            self.length += written
            view = view[written:]

    def _write_error(self, error: OSError) -> HubError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return HubError(
                "hub.disk_full",
                recoverable=True,
                done=f"{self.length / 1e6:,.1f} MB",
                size=f"{self._file.size / 1e6:,.1f} MB",
                path=str(self._path.parent),
            )
        return HubError("hub.unwritable", path=str(self._path), reason=error.strerror or str(error))

    def publish(self) -> None:
        """Prove the content, then give it its name. Afterwards it is a model like any other.

        Raises:
            HubError: the hash is another; the bytes are thrown away.
        """
        got = self._hash.hexdigest()
        if got != self._file.digest:
            self._path.unlink(missing_ok=True)
            raise HubError(
                "hub.checksum",
                recoverable=True,
                file=self._file.path,
                want=self._file.digest,
                got=got,
            )
        blob = self._folder.blob(self._file.digest)
        with writable(self._path):
            os.fsync(self._descriptor)
            self._path.replace(blob)
            sync_folder(blob.parent)
