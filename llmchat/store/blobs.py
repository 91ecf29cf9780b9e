"""Attached bytes by their content hash: `<data>/blobs/ab/abcd…`, private, written once.

Owns the files; who refers to them is the database's. A blob is whole under its name or not there.

What nothing refers to is deleted by `sweep`, unless somebody put it in the last week: between
attaching and sending nothing in the database names it. Whoever puts a blob that is there makes it
young again, and the two meet under a lock.
"""

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path

from llmchat.errors import NotFound, StoreError
from llmchat.paths import ensure_private
from llmchat.whole_file import write_whole

GRACE = 7 * 86_400.0
"""Seconds that a blob may lie here without a message that refers to it."""

BETWEEN_SWEEPS = 86_400.0
"""Seconds."""

_HASH = re.compile("[0-9a-f]{64}")
_LOCK, _SWEPT = ".lock", ".swept"


class Blobs:
    """The blobs of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        """Keep `data`; its sha256 in hex.

        Raises:
            StoreError: the disk refuses.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        try:
            ensure_private(self._folder)
            with self._locked(fcntl.LOCK_SH):
                if not _make_young(path):
                    ensure_private(path.parent)
                    write_whole(path, data)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError("store.blob_unwritable", path=path, reason=reason) from error
        return digest

    def keep(self, digest: str) -> bool:
        """Something is about to refer to this blob; False: it is not here."""
        path = self._path(digest)
        try:
            with self._locked(fcntl.LOCK_SH):
                return _make_young(path)
        except OSError:
            return path.is_file()  # a disk that takes nothing is not swept either

    def get(self, digest: str, *, most: int | None = None) -> bytes:
        """The bytes of that hash.

        Raises:
            NotFound: they are not here, no longer what they were, or more than `most`.
        """
        path = self._path(digest)
        try:
            if most is not None and path.stat().st_size > most:
                raise NotFound("store.no_blob", digest=digest)
            data = path.read_bytes()
        except OSError as error:
            raise NotFound("store.no_blob", digest=digest) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise NotFound("store.no_blob", digest=digest)
        return data

    def sweep(self, referred: Callable[[], AbstractSet[str]], *, now: bool = False) -> int:
        """Delete what nothing refers to any more; how many files that were.

        Args:
            referred: says every hash that something refers to; asked only when there is something
                old enough to go.
            now: do not wait until a day has passed since the last time.

        A disk that refuses is left alone until the next time.
        """
        try:
            if not self._folder.is_dir() or not (now or self._is_due()):
                return 0
            (self._folder / _SWEPT).touch(0o600)
            old = [path for path in self._folder.glob("??/*") if _is_old(path)]
            if not old:
                return 0
            known = referred()
            with self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
                return sum(_remove(path) for path in old if path.name not in known)
        except OSError:
            return 0

    def _is_due(self) -> bool:
        try:
            return time.time() - (self._folder / _SWEPT).stat().st_mtime > BETWEEN_SWEEPS
        except FileNotFoundError:
            return True

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Adding or sweeping. The lock's file stays, as all of ours do.

        Raises:
            OSError: the disk has no locks, or with LOCK_NB somebody else is there.
        """
        file = os.open(self._folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            if how & fcntl.LOCK_EX:
                fcntl.flock(file, how)
            else:
                with suppress(OSError):  # where there are no locks, nothing is swept
                    fcntl.flock(file, how)
            yield
        finally:
            os.close(file)

    def _path(self, digest: str) -> Path:
        if not _HASH.fullmatch(digest):
            raise NotFound("store.no_blob", digest=digest)
        return self._folder / digest[:2] / digest


def _make_young(path: Path) -> bool:
    """False: there is no such file."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return path.is_file()


def _is_old(path: Path) -> bool:
    """A blob, or what a write that died has left, that nobody put for the time of grace."""
    if _HASH.fullmatch(path.name.partition(".")[0]) is None:
        return False
    try:
        return time.time() - path.lstat().st_mtime > GRACE
    except OSError:
        return False


def _remove(path: Path) -> bool:
    """Delete one, unless somebody has put it again meanwhile."""
    try:
        if not _is_old(path):
            return False
        path.unlink()
        with suppress(OSError):
            path.parent.rmdir()  # only if it is empty
    except OSError:
        return False
    return True
