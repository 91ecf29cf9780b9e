"""A whole store: opening it whatever state the disk is in, and its parts.

Owns what happens at the door: a fresh file, pending migrations, a newer schema, a file that is
damaged or cannot be written. Nothing is ever deleted or overwritten: a damaged file is moved aside
under a dated name, and when no file can be used the conversation goes on in memory, with a notice.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from llmchat.errors import ConfigError, LlmchatError, StoreError
from llmchat.paths import ensure_private
from llmchat.store.conversations import Conversations
from llmchat.store.database import Database, connect, make_private_file
from llmchat.store.migrations import is_behind, is_newer, migrate
from llmchat.store.recovering import recover
from llmchat.store.replies import Replies
from llmchat.store.search import EVERYTHING, Hit, Within, search
from llmchat.store.tree import Tree
from llmchat.store.whole import write_whole
from llmchat.text import say

MEMORY = ":memory:"


class Store:
    """Conversations on one disk. Every method runs on the thread that opened it."""

    def __init__(self, db: Database, locks: Path | None, face: str, notices: list[str]) -> None:
        self.db = db
        self.notices = notices
        self.conversations = Conversations(db)
        self.tree = Tree(db, self.conversations)
        self.replies: Replies | None = None
        if db.writable:
            self.replies = Replies(db, self.conversations, self.tree, locks, face)
            self.replies.recover(say("store.interrupted"))
        self._seen = db.data_version()
        self._recovered = time.monotonic()

    @property
    def writer(self) -> Replies:
        """Where replies are written.

        Raises:
            StoreError: the store is only read, and why.
        """
        self.db.need_writable()
        assert self.replies is not None
        return self.replies

    def search(self, words: str, within: Within = EVERYTHING, *, limit: int = 50) -> list[Hit]:
        """Everything that was said with these words; see `search.py`."""
        return search(self.db, words, within, limit=limit)

    def last_model(self) -> str | None:
        """The name of the model that wrote the newest reply, other programs' chats aside."""
        row = self.db.one(
            """SELECT model FROM generation
                JOIN message ON seq = generation.message
                JOIN conversation ON conversation.id = message.conversation
                WHERE source <> 'import' ORDER BY generation.message DESC LIMIT 1"""
        )
        return None if row is None else str(row[0])

    def referred(self) -> set[str]:
        """Hashes of every blob that a message has, on any branch, deleted ones too."""
        found = self.db.read("SELECT DISTINCT blob FROM part WHERE blob IS NOT NULL")
        return {str(digest) for (digest,) in found}

    @property
    def is_all(self) -> bool:
        """Whether everything ever said is in this file.

        Not so in memory, in a file that is only read, and beside one that was moved aside damaged.
        """
        path = Path(self.db.path)
        if not self.db.writable or self.db.path == MEMORY:
            return False
        return next(path.parent.glob(f"{path.name}.damaged-*"), None) is None

    def changed(self) -> bool:
        """Whether another process has written since this was last asked.

        Also marks, every two seconds, what processes that died meanwhile have left.
        """
        now = time.monotonic()
        recovered = 0
        if self.replies is not None and now - self._recovered > 2.0:
            self._recovered = now
            recovered = self.replies.recover(say("store.interrupted"))
        version = self.db.data_version()
        is_new, self._seen = version != self._seen, version
        return is_new or recovered > 0

    def close(self) -> None:
        """Give the owner's name up and close the file."""
        try:
            if self.replies is not None:
                self.replies.close()
        finally:
            self.db.close()


def open_store(path: Path, locks: Path, *, face: str) -> Store:
    """Open the conversations, or the best that can be had; the store's notices say what happened.

    Args:
        path: the database file; its folder is made private.
        locks: a folder of ours for the writers' lock files.
        face: who opens it, for the owner's row.
    """
    try:
        return _open_or_read(path, locks, face)
    except (StoreError, ConfigError) as error:
        if error.key == "store.corrupt":
            return _start_anew(path, locks, face)
        if isinstance(error, StoreError) and (store := _only_read(path, locks, face, error)):
            return store
        return _in_memory(face, error)


def _only_read(path: Path, locks: Path, face: str, refusal: StoreError) -> Store | None:
    """A file that is whole, but beside which nothing can be made now: a disk that is full.

    What is written goes on in memory (`aside.py`), for the reason that `refusal` gives.
    """
    wal = path.with_name(path.name + "-wal")
    if not path.is_file() or (wal.exists() and wal.stat().st_size):
        return None  # the newest words are in the log, which cannot be read without making a file
    try:
        db = connect(str(path), refusal=refusal, immutable=True)
        if is_behind(db) or is_newer(db):
            db.close()
            return None
        return Store(db, locks, face, [refusal.sentence])
    except StoreError:
        return None


def _open_or_read(path: Path, locks: Path, face: str) -> Store:
    try:
        ensure_private(path.parent)
        ensure_private(locks)
    except ConfigError as error:
        if error.key != "paths.unwritable" or not path.is_file():
            raise
        return _open_read_only(path, locks, face, str(error.values["reason"]))
    return _open_file(path, locks, face)


def _open_file(path: Path, locks: Path, face: str) -> Store:
    if path.is_dir():
        raise StoreError("store.corrupt", path=str(path), reason="a folder")
    try:
        make_private_file(path)
    except OSError as error:
        if not path.is_file():
            raise StoreError("store.cannot_open", path=str(path), reason=_why(error)) from error
        return _open_read_only(path, locks, face, _why(error))
    if 0 < path.stat().st_size < HEADER_BYTES:
        raise StoreError("store.corrupt", path=str(path), reason="cut short")
    db = connect(str(path))
    with ExitStack() as closing:
        closing.callback(db.close)
        if is_newer(db):
            refusal = StoreError("store.newer", path=str(path))
            newer = connect(str(path), refusal=refusal)
            return Store(newer, locks, face, [refusal.sentence])
        if _is_suspect(path, db):
            _check(db)
        _suspect_mark(path).unlink(missing_ok=True)
        if is_behind(db):
            with _lock(locks, "migrate"):
                for leftover in path.parent.glob(f"{path.name}.*.part*"):
                    leftover.unlink()  # of a backup that was killed
                stamp = time.strftime("%Y%m%d-%H%M%S")
                migrate(db, path.with_name(f"{path.name}.{stamp}"))
        store = Store(db, locks, face, [])
        db.on_damage = partial(mark_suspect, path)
        closing.pop_all()
    return store


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _open_read_only(path: Path, locks: Path, face: str, reason: str) -> Store:
    """A file that cannot be written is read."""
    if not os.access(path, os.R_OK):
        raise StoreError("store.cannot_open", path=str(path), reason=reason)
    refusal = StoreError("store.read_only", path=str(path), reason=reason)
    wal = path.with_name(path.name + "-wal")
    is_whole = not wal.exists() or wal.stat().st_size == 0
    can_meet = os.access(path.parent, os.W_OK)  # false on a read-only disk even for root
    db = connect(str(path), refusal=refusal, immutable=is_whole and not can_meet)
    return Store(db, locks, face, [refusal.sentence])


HEADER_BYTES = 100
"""What every SQLite file begins with (sqlite.org/fileformat.html); a shorter one is taken as empty
by SQLite, and written over."""

SMALL_BYTES = 8 * 1024 * 1024
"""A file up to this size is checked at every start (about 20 ms)."""


def _is_suspect(path: Path, db: Database) -> bool:
    """Worth a whole check: small, found damaged in use, or not closed properly last time."""
    if path.stat().st_size <= SMALL_BYTES or _suspect_mark(path).exists():
        return True
    return db.one("SELECT 1 FROM sqlite_schema WHERE name = 'owner'") is None


def _suspect_mark(path: Path) -> Path:
    return path.with_name(path.name + ".check-me")


def mark_suspect(path: Path) -> None:
    """Have the file checked at the next start: something in it could not be read."""
    with suppress(OSError):  # a disk that cannot be written either has said so already
        make_private_file(_suspect_mark(path))


def _check(db: Database) -> None:
    row = db.one("PRAGMA quick_check(1)")
    if row is None or row[0] != "ok":
        raise StoreError("store.corrupt", path=db.path, reason=str(row and row[0]))


def _start_anew(path: Path, locks: Path, face: str) -> Store:
    """Move what is damaged aside, log and all, and begin with an empty store.

    Under a lock, and only if it is still damaged then: another process may have been faster.
    """
    try:
        with _lock(locks, "repair"):
            try:
                return _open_file(path, locks, face)
            except StoreError as error:
                if error.key != "store.corrupt":
                    raise
            aside = move_aside(path)
            store = _open_file(path, locks, face)
    except (LlmchatError, OSError) as error:
        return _in_memory(face, error)
    conversations, messages = _bring_back(store, aside)
    key = "store.recovered" if conversations else "store.moved_aside"
    values = {"path": path, "aside": aside, "conversations": conversations, "messages": messages}
    store.notices.append(say(key, **values))
    return store


def _bring_back(store: Store, aside: Path) -> tuple[int, int]:
    """What can still be read of a damaged file, into a new store: (conversations, messages)."""
    try:
        found = recover(aside)
    except OSError:
        return 0, 0
    done = messages = 0
    for saved in found:
        with suppress(StoreError):  # the file is kept: what does not fit is not lost
            write_whole(store.db, saved)
            done += 1
            messages += len(saved.messages)
    return done, messages


@contextmanager
def _lock(locks: Path, name: str) -> Iterator[None]:
    """One process at a time. The file stays: removing it would give two processes two locks."""
    file = os.open(locks / f".{name}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def move_aside(path: Path) -> Path:
    """Rename a damaged store to a dated name that is free, with its write-ahead log.

    The log goes first: a new store must never find it beside its own name.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    candidates = (
        path.with_name(f"{path.name}.damaged-{stamp}{suffix}")
        for suffix in ("", *(f"-{number}" for number in range(1, 1000)))
    )
    aside = next(name for name in candidates if not name.exists())
    for suffix in ("-wal", "-shm", ""):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(aside.with_name(aside.name + suffix))
    return aside


def memory_store(face: str) -> Store:
    """A store that is gone when it is closed."""
    db = connect(MEMORY)
    migrate(db, None)
    return Store(db, None, face, [])


def _in_memory(face: str, error: LlmchatError | OSError) -> Store:
    """The last resort: nothing of this session will be kept, and the notice says so."""
    store = memory_store(face)
    store.notices.append(say("store.in_memory", reason=str(error).rstrip(".")))
    return store
