"""The folder of saved states: who may write in it when, how full it may be, what must leave it.

Owns the one lock of all workers and programs, the budget, eviction, forgetting, and what a killed
writer left behind. The budget and the forgotten conversations lie in the folder itself, so that a
worker that is already running obeys a setting that was changed a moment ago.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from llmchat.engine.disk import entry
from llmchat.engine.disk.entry import META, STATE, TEMPORARY, Damaged, Meta
from llmchat.paths import ensure_private

LOCK, BUDGET, FORGOTTEN = "lock", "budget", "forgotten"
OURS = (STATE, META, TEMPORARY)
RESERVE = 512 * 1024 * 1024
"""Free bytes that stay on the medium: a cache must not be what fills it."""
SETTLED = 100_000_000
"""Nanoseconds after which a folder's modification time stands for its content."""
HALF_LIFE = 24 * 3600.0
"""Seconds without use after which an entry is worth half."""
REMEMBERED = 30 * 24 * 3600.0
"""How long a forgotten conversation is refused: longer than a worker still holds its cells."""


class Kept(Struct, frozen=True, kw_only=True):
    """What the folder holds. Bytes."""

    path: str
    size: int = 0
    entries: int = 0
    budget: int = 0


class Temporary:
    """A state file while it is written; its lock says that its writer lives."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self.file = file

    def drop(self) -> None:
        """Give it up."""
        self.path.unlink(missing_ok=True)


class Folder:
    """`<cache>/kv/`. Every method is for any thread and any process; none waits for a write."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._known: dict[str, tuple[tuple[int, int, int], Meta]] = {}
        self._listed = 0
        """Modification time of the folder that `_known` stands for; 0: none can be trusted."""
        self._temporaries = 0

    # without the lock

    def entries(self) -> list[Meta]:
        """Every entry whose meta file is right. Cheap while nothing changes."""
        changed = self._changed()
        if changed and changed == self._listed:
            return [meta for _, meta in self._known.values()]
        known: dict[str, tuple[tuple[int, int, int], Meta]] = {}
        for found in self._files():
            if not found.name.endswith(META):
                continue
            with suppress(OSError, Damaged):
                status = found.stat(follow_symlinks=False)
                version = (status.st_ino, status.st_mtime_ns, status.st_size)
                name = found.name.removesuffix(META)
                before = self._known.get(name)
                if before is not None and before[0] == version:
                    known[name] = before
                else:
                    known[name] = (version, entry.read_meta(self.path, name))
        # A clock that ticks in milliseconds cannot tell two changes in one tick apart.
        settled = time.time_ns() - changed > SETTLED
        self._known, self._listed = known, changed if settled else 0
        return [meta for _, meta in known.values()]

    def _changed(self) -> int:
        """When a name in the folder last came or went, in nanoseconds; 0: there is none."""
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return 0

    def kept(self) -> Kept:
        """Its size now."""
        return Kept(
            path=str(self.path),
            size=self._size(),
            entries=len(self.entries()),
            budget=self.budget(),
        )

    def budget(self) -> int:
        """Bytes it may hold; 0 where nobody has said, or nothing can be read."""
        try:
            return max(0, int((self.path / BUDGET).read_bytes()[:20]))
        except (OSError, ValueError):
            return 0

    def _files(self) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(self.path) as found:
                return [item for item in found if item.name.endswith(OURS)]
        except OSError:
            return []

    def _size(self) -> int:
        total = 0
        for found in self._files():
            with suppress(OSError):
                total += found.stat(follow_symlinks=False).st_size
        return total

    # under the lock

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone in the folder, across processes. Held for milliseconds, never during a write.

        Raises:
            ConfigError: the folder cannot be ours alone.
            OSError: the lock cannot be opened.
        """
        ensure_private(self.path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path / LOCK, flags, entry.PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def set_budget(self, size: int) -> None:
        """From now on at most `size` bytes, for every worker; 0 empties it and keeps it empty.

        Raises:
            ConfigError, OSError: the folder cannot be used.
        """
        if size == self.budget() and (size or not self._files()):
            return
        if size == 0 and not self.path.is_dir():
            return
        with self.locked():
            self._write(BUDGET, str(size).encode())
            if size == 0:
                self._empty()
            self._sweep()
            self._fit(0)

    def clear(self) -> None:
        """Remove every entry, those that are being written too."""
        if self.path.is_dir():
            with self.locked():
                self._empty()

    def forget(self, tag: str) -> None:
        """A conversation is gone for good: so is what only it said.

        A worker may still hold its cells; it cannot save them any more either.
        """
        if not self.path.is_dir():
            return
        with self.locked():
            now = self._clock()
            forgotten = {
                old: at for old, at in self._forgotten().items() if now - at < REMEMBERED
            } | {tag: now}
            self._write(FORGOTTEN, msgspec.json.encode(forgotten))
            for meta in self.entries():
                if tag not in meta.tags:
                    continue
                others = tuple(other for other in meta.tags if other != tag)
                if others:
                    self._write_meta(replace(meta, tags=others))
                else:
                    self._remove(meta.name)

    def allow(self, tag: str) -> None:
        """A forgotten conversation is there again, and may be saved."""
        if self.path.is_dir() and tag in self._forgotten():
            with self.locked():
                left = {old: at for old, at in self._forgotten().items() if old != tag}
                self._write(FORGOTTEN, msgspec.json.encode(left))

    def sweep(self) -> None:
        """Remove what a killed writer left, and what is damaged."""
        if self.path.is_dir():
            with self.locked():
                self._sweep()

    def discard(self, meta: Meta) -> None:
        """Forget an entry that was found wrong, unless it was written anew meanwhile."""
        with self.locked(), suppress(OSError):
            try:
                if entry.read_meta(self.path, meta.name).checksum != meta.checksum:
                    return
            except Damaged:
                pass  # it goes, too
            self._remove(meta.name)

    def touch(self, name: str, tag: str = "") -> bool:
        """An entry was used. `tag`: by a conversation that says all of it, whose it is now, too.

        False: it is not there any more.
        """
        with self.locked():
            try:
                meta = entry.read_meta(self.path, name)
            except (OSError, Damaged):
                return False
            new = tag and tag not in meta.tags and tag not in self._forgotten()
            tags = (*meta.tags, tag) if new else meta.tags
            self._write_meta(replace(meta, tags=tags, used=self._clock()))
            return True

    def begin(self, name: str, size: int, tag: str) -> Temporary | None:
        """Room for a state of `size` bytes, and the file to write it to. None: there is none."""
        with self.locked():
            self._sweep()
            if tag in self._forgotten() or not self._fit(size):
                return None
            if shutil.disk_usage(self.path).free < size + RESERVE:
                return None
            self._temporaries += 1
            path = self.path / f"{name}.{os.getpid()}-{self._temporaries}{TEMPORARY}"
            file = entry.new_private(path)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.truncate(size)  # counts in full from now on
            except OSError:
                file.close()
                path.unlink(missing_ok=True)
                raise
            return Temporary(path, file)

    def commit(self, temporary: Temporary, meta: Meta, replaced: Callable[[Meta], bool]) -> bool:
        """Make what was written an entry; entries for which `replaced` is true go.

        False: it was forgotten or cleared while it was written.
        """
        with self.locked():
            forgotten = self._forgotten()
            tags = tuple(tag for tag in meta.tags if tag not in forgotten)
            if not tags or not temporary.path.exists() or not self.budget():
                temporary.drop()
                return False
            for old in self.entries():
                if old.name == meta.name:  # another worker was faster with the same tokens
                    tags = tuple(dict.fromkeys((*old.tags, *tags)))
                elif replaced(old):
                    self._remove(old.name)
            temporary.path.rename(self.path / (meta.name + STATE))
            self._write_meta(replace(meta, tags=tags, used=self._clock()))
            self._fit(0)  # the budget may have shrunk meanwhile
            return True

    # only while the lock is held

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / (name + TEMPORARY)
        path.unlink(missing_ok=True)
        with entry.new_private(path) as file:
            file.write(data)
        path.rename(self.path / name)

    def _write_meta(self, meta: Meta) -> None:
        self._write(meta.name + META, entry.encode_meta(meta))

    def _remove(self, name: str) -> None:
        for suffix in (META, STATE):  # in this order: without its meta file it is none
            (self.path / (name + suffix)).unlink(missing_ok=True)

    def _empty(self) -> None:
        for found in self._files():
            Path(found.path).unlink(missing_ok=True)

    def _forgotten(self) -> dict[str, float]:
        try:
            return msgspec.json.decode((self.path / FORGOTTEN).read_bytes(), type=dict[str, float])
        except (OSError, msgspec.DecodeError):
            return {}

    def _sweep(self) -> None:
        """Whoever holds the lock is between no two files of an entry: halves are left-overs."""
        right = {meta.name for meta in self.entries()}
        for found in self._files():
            name = found.name.partition(".")[0]
            if found.name.endswith(TEMPORARY):
                _remove_if_dead(Path(found.path))
            elif found.name not in (name + STATE, name + META) or name not in right:
                Path(found.path).unlink(missing_ok=True)
        for name in right:
            if not (self.path / (name + STATE)).is_file():
                self._remove(name)

    def _fit(self, size: int) -> bool:
        """Evict what is worth least until `size` more bytes fit the budget."""
        budget = self.budget()
        if size > budget or budget == 0:
            return False
        room = budget - self._size() - size
        now = self._clock()
        for meta in sorted(self.entries(), key=lambda meta: worth(meta, now)):
            if room >= 0:
                break
            self._remove(meta.name)
            room = budget - self._size() - size
        return room >= 0


def worth(meta: Meta, now: float) -> float:
    """Seconds of reading that a MiB saves, halved for each day without use."""
    seconds = meta.seconds or meta.n_tokens / 1000
    age = max(0.0, now - meta.used)
    return float(seconds / (meta.size / 2**20) * 0.5 ** min(1000.0, age / HALF_LIFE))


def _remove_if_dead(path: Path) -> None:
    """Remove a temporary file whose writer does not hold it any more."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError:  # a link, a folder: nothing of ours
        with suppress(OSError):
            path.unlink()
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
