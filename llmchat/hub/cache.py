"""Writing into the standard Hugging Face cache, so that every other tool finds the file there.

Owns a repository's folder: blobs by hash, snapshots by commit, refs, and Hugging Face's own lock of
a blob. Layout and lock names are huggingface_hub's (`file_download.py`). Refuses names that
`answers.py` does not pass and folders that lead out of the repository's.
"""

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmchat.errors import HubError, Interrupted
from llmchat.hub.answers import GIT_SHA1, SHA256, safe_path
from llmchat.hub.spans import bytes_here, journal_of
from llmchat.whole_file import PART_SUFFIX, beside, sync_folder, write_whole

_POLL = 0.1
"""Seconds between looks at a lock that somebody else holds."""


class RepoFolder:
    """One repository's folder in the cache. Nothing is made until something is written."""

    def __init__(self, cache: Path, repo: str) -> None:
        name = f"models--{repo.replace('/', '--')}"
        self.cache = cache
        self.folder = cache / name
        self._locks = cache / ".locks" / name

    def blob(self, digest: str) -> Path:
        """Where the whole file of that content lies."""
        if not (SHA256.fullmatch(digest) or GIT_SHA1.fullmatch(digest)):
            raise HubError("hub.bad_answer", what="ETag", value=digest[:100])
        return self.folder / "blobs" / digest

    def part(self, digest: str) -> Path:
        """Where its bytes gather until they are whole and proven."""
        return self.blob(digest).with_name(digest + PART_SUFFIX)

    def snapshot(self, commit: str, path: str) -> Path:
        """The file's name at a commit."""
        if not GIT_SHA1.fullmatch(commit):
            raise HubError("hub.bad_answer", what="commit", value=commit[:100])
        if not safe_path(path):
            raise HubError("hub.bad_answer", what="file name", value=path[:100])
        return self.folder / "snapshots" / commit / path

    def has(self, digest: str, size: int) -> bool:
        """Whether the whole file is here."""
        try:
            return self.blob(digest).stat().st_size == size
        except OSError:
            return False

    def partial(self, digest: str) -> int:
        """Bytes of it that an earlier pull left."""
        return bytes_here(self.part(digest))

    def discard(self, digest: str) -> None:
        """Throw away the partial file, unless another process is at it.

        Raises:
            HubError: it cannot be removed.
        """
        part = self.part(digest)
        self.discard_file(digest, part)
        self.discard_file(digest, journal_of(part))

    def discard_file(self, digest: str, path: Path) -> bool:
        """Delete one of a blob's partial files under its lock; False when another process has it.

        Raises:
            HubError: it cannot be removed.
        """
        if not path.exists():
            return False
        with writable(self.cache):
            self._locks.mkdir(parents=True, exist_ok=True)
        if (held := _try_lock(self._locks / f"{digest}.lock")) is None:
            return False
        try:
            with writable(path):
                path.unlink(missing_ok=True)
        finally:
            os.close(held)
        return True

    @contextmanager
    def locked(
        self, digest: str, stop: threading.Event, on_wait: Callable[[], None]
    ) -> Iterator[None]:
        """Hold Hugging Face's lock of a blob; `on_wait` is called while another process has it.

        Raises:
            Interrupted: stopped while waiting. HubError: the cache cannot be written.
        """
        with writable(self.cache):
            self._locks.mkdir(parents=True, exist_ok=True)
        path = self._locks / f"{digest}.lock"
        while (held := _try_lock(path)) is None:
            on_wait()
            if stop.wait(_POLL):
                raise Interrupted
        try:
            yield
        finally:
            os.close(held)

    def prepare(self, path: Path) -> None:
        """Make the folder of `path`, and see that it really lies in this repository's.

        Raises:
            HubError: it cannot be made, or a link leads elsewhere.
        """
        with writable(self.cache):
            path.parent.mkdir(parents=True, exist_ok=True)
            inside = path.parent.resolve().is_relative_to(self.folder.resolve())
        if not inside:
            raise HubError("hub.leads_away", path=str(path.parent))

    def link(self, commit: str, path: str, digest: str) -> Path:
        """Give a whole file its name at a commit: a relative link, made in one step."""
        target = self.snapshot(commit, path)
        blob = self.blob(digest)
        self.prepare(target)
        content = os.path.relpath(blob, target.parent)
        if target.is_symlink() and os.readlink(target) == content:
            return target
        with writable(self.cache):
            with beside(target) as fresh:
                try:
                    fresh.symlink_to(content)
                except PermissionError:
                    os.link(blob, fresh)  # a file system without symbolic links
                fresh.replace(target)
            sync_folder(target.parent)
        return target

    def write_ref(self, ref: str, commit: str) -> None:
        """Note that the hub said a branch or tag is that commit."""
        path = self.folder / "refs" / ref
        if not safe_path(ref):
            raise HubError("hub.bad_answer", what="revision", value=ref[:100])
        self.prepare(path)
        with writable(self.cache):
            write_whole(path, commit.encode(), mode=0o666)  # as huggingface_hub's own


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None while another does.

    Hugging Face's filelock may unlink the file when it lets go, so what was locked must still be
    what the name means.
    """
    with writable(path):
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(held), path.stat()):
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(held)
        raise
    os.close(held)
    return None


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a sentence that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HubError("hub.no_space", recoverable=True, path=str(path)) from error
        reason = error.strerror or str(error)
        raise HubError("hub.unwritable", path=str(path), reason=reason) from error


def require_space(folder: Path, needed: int) -> None:
    """Refuse what does not fit, before the first byte.

    Raises:
        HubError: fewer than `needed` bytes are free.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    with writable(folder):
        free = shutil.disk_usage(existing).free
    if needed > free:
        raise HubError(
            "hub.does_not_fit", needed=_megabytes(needed), free=_megabytes(free), path=str(folder)
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
