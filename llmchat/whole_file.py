"""Writing a file whole: at any moment its name means all of the old content or all of the new.

Owns how a file of ours is put under its name: written beside it under a name that no other process
or thread has, made to last, renamed. Refuses folders that are not there, what arrives in pieces
(hub/partfile.py, engine/disk/), and sentences: the caller knows what the file was for.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE
from typing import Final

PART_SUFFIX: Final = ".llmchat-part"
"""How every unfinished file of ours ends, so that a leftover says whose it is."""

_LONGEST: Final = 200
"""Bytes of a file's name that fit into the temporary one; file systems allow 255."""


def write_whole(
    path: Path, data: bytes, *, mode: int = 0o600, keep_mode: bool = False, lasting: bool = True
) -> None:
    """Make `data` the content of `path`, in one step. A link there is replaced, not followed.

    Args:
        path: its folder must exist.
        data: all of it.
        mode: of the file, less the process's umask.
        keep_mode: take that of the file there, if there is one.
        lasting: wait until it would survive a power loss (some milliseconds); False for what can
            be made again.

    Raises:
        OSError: the disk refuses. What lay there is as it was, and nothing else is left, unless all
            that failed was making the new name last.
    """
    with beside(path) as part:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(part, flags, mode), "wb") as file:
            if keep_mode:
                with suppress(FileNotFoundError):
                    os.fchmod(file.fileno(), S_IMODE(path.stat().st_mode))
            file.write(data)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        part.replace(path)
    if lasting:
        sync_folder(path.parent)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name beside `path` for what shall replace it; what is left under it at the end is removed.

    By chance, not by process and thread: their numbers come again, also in two containers that
    share a folder, and what a dead process left must not be in the way. The name begins as `path`'s
    does, so that whoever sweeps knows what it was to be.
    """
    begin = path.name if len(os.fsencode(path.name)) <= _LONGEST else ""
    part = path.with_name(f"{begin}.{os.urandom(8).hex()}{PART_SUFFIX}")
    try:
        yield part
    finally:
        with suppress(OSError):  # why it failed is told, not that it cannot be tidied up either
            part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries survive a power loss, where its file system can do that.

    Raises:
        OSError: the disk refuses.
    """
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(held)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network shares, FUSE
            raise
    finally:
        os.close(held)
