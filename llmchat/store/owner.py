"""Who writes a reply: a random name whose lock file the writing process holds.

A reply that is still `streaming` belongs to a living writer exactly as long as that lock is held;
the kernel lets go of it however the process ends. Names are random, so a file whose lock is free
can be removed without a race: nobody will ever take that name again.
"""

import fcntl
import os
from pathlib import Path

from llmchat.errors import StoreError
from llmchat.store.ids import new_id


class Owner:
    """This process's name as a writer, held until `close`.

    Without a folder nothing is locked: a store in memory has one writer.
    """

    def __init__(self, folder: Path | None) -> None:
        self.id = new_id()
        self._path: Path | None = None
        self._file = -1
        if folder is None:
            return
        try:
            while not self._take(folder):
                self.id = new_id()
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError("store.cannot_open", path=str(folder), reason=reason) from error

    def _take(self, folder: Path) -> bool:
        """Make and lock the file; False if `sweep` took it away before it was locked."""
        path = _lock_path(folder, self.id)
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = path.stat().st_ino == os.fstat(file).st_ino
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        if not is_ours:
            os.close(file)
            return False
        self._path, self._file = path, file
        return True

    def close(self) -> None:
        """Give the name up."""
        if self._path is None:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def is_gone(folder: Path, owner: str) -> bool:
    """Whether the writer of that name has ended. A missing lock file counts as ended."""
    try:
        file = os.open(_lock_path(folder, owner), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # not ours to judge
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


def sweep(folder: Path) -> None:
    """Remove the lock files of writers that have ended.

    Each is held while it is removed, so that a writer that is just being made notices.
    """
    for path in folder.glob("*.lock"):
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            pass
        finally:
            os.close(file)


def _lock_path(folder: Path, owner: str) -> Path:
    return folder / f"{owner}.lock"
