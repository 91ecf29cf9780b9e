"""One SQLite file: the only place that executes a statement, and that names what went wrong.

Owns the connection's settings, transactions and the translation of SQLite's errors into sentences.
Refuses to know any table.

`synchronous=FULL`: a question is on the disk before the model is asked, even if the power fails.
It costs one fsync a commit, and a turn commits about once a second.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import apsw

from llmchat.errors import StoreError

SqlValue = None | int | float | str | bytes
"""What SQLite holds."""

Row = tuple[SqlValue, ...]

BUSY_SECONDS = 20.0
"""How long a statement waits for another process before it gives up."""

MINIMUM_SQLITE = (3, 51, 3)
"""Older ones can corrupt a WAL that two processes checkpoint (sqlite.org/wal.html, WAL-reset)."""

_KEYS: tuple[tuple[type[apsw.Error], str], ...] = (
    (apsw.FullError, "store.full"),
    (apsw.ReadOnlyError, "store.read_only"),
    (apsw.CorruptError, "store.corrupt"),
    (apsw.NotADBError, "store.corrupt"),
    (apsw.BusyError, "store.busy"),
    (apsw.LockedError, "store.busy"),
    (apsw.CantOpenError, "store.cannot_open"),
    (apsw.PermissionsError, "store.cannot_open"),
)


def store_error(error: apsw.Error, path: str) -> StoreError:
    """The sentence for one of SQLite's errors."""
    key = next((key for kind, key in _KEYS if isinstance(error, kind)), "store.failed")
    return StoreError(key, path=path, reason=str(error), recoverable=key != "store.corrupt")


def _nothing() -> None:
    return None


class Database:
    """A connection and its rules. Not thread-safe: one thread owns it."""

    def __init__(
        self, connection: apsw.Connection, path: str, refusal: StoreError | None = None
    ) -> None:
        self._connection = connection
        self.path = path
        self._refusal = refusal
        self.on_damage: Callable[[], None] = _nothing
        """Called when a statement finds the file damaged."""

    @property
    def writable(self) -> bool:
        """Whether something may be changed."""
        return self._refusal is None

    def need_writable(self) -> None:
        """Refuse to go on with a store that is only read.

        Raises:
            StoreError: why nothing may be changed.
        """
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)  # it is raised again and again

    def read(self, sql: str, bindings: Sequence[SqlValue] = ()) -> list[Row]:
        """Every row of a statement.

        Raises:
            StoreError: SQLite refused, with the reason.
        """
        try:
            return list(self._connection.execute(sql, bindings))
        except apsw.Error as error:
            refusal = store_error(error, self.path)
            if refusal.key == "store.corrupt":
                self.on_damage()
            raise refusal from error
        except UnicodeDecodeError as error:
            raise StoreError("store.failed", path=self.path, reason=str(error)) from error

    def one(self, sql: str, bindings: Sequence[SqlValue] = ()) -> Row | None:
        """The first row, or None."""
        rows = self.read(sql, bindings)
        return rows[0] if rows else None

    def write(self, sql: str, bindings: Sequence[SqlValue] = ()) -> int:
        """Run one statement that changes something; the number of rows it changed.

        Raises:
            StoreError: SQLite refused, or the store was opened for reading only.
        """
        self.need_writable()
        self.read(sql, bindings)
        return self._connection.changes()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Inside another transaction it is part of that one.

        Raises:
            StoreError: it could not begin or commit; nothing of it is in the file then.
        """
        if self._connection.in_transaction:
            yield
            return
        self.need_writable()
        self.read("BEGIN IMMEDIATE")
        try:
            yield
            self.read("COMMIT")
        finally:
            self._roll_back()  # only if it did not get to its end

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite ends it itself when the disk is full
            self._connection.execute("ROLLBACK")

    def data_version(self) -> int:
        """Changes when another connection has committed (sqlite.org/pragma.html, data_version)."""
        row = self.one("PRAGMA data_version")
        return int(str(row[0])) if row else 0

    def copy_to(self, path: Path) -> None:
        """A whole copy under another name, which appears only when complete.

        Raises:
            StoreError: it cannot be read or written.
        """
        part = path.with_name(path.name + ".part")
        try:
            make_private_file(part)
            target = apsw.Connection(str(part))
            try:
                target.execute("PRAGMA journal_mode = OFF")  # a half copy is thrown away
                with target.backup("main", self._connection, "main") as backup:
                    backup.step()
            finally:
                target.close()
            part.replace(path)
        except apsw.Error as error:
            raise store_error(error, str(path)) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError("store.cannot_open", path=str(path), reason=reason) from error
        finally:
            part.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file; the log is folded into it when nobody else has it open."""
        self._connection.close()


def make_private_file(path: Path) -> None:
    """Create an empty file that only its owner can read (0600), if there is none."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def connect(path: str, *, refusal: StoreError | None = None, immutable: bool = False) -> Database:
    """Open a SQLite file, or `:memory:`.

    Args:
        path: of the file.
        refusal: why it must not be changed, which every attempt then says; None: it may be.
        immutable: nobody can change it (sqlite.org/uri.html): a folder that cannot be written has
            no room for the files by which readers and writers meet.

    Raises:
        StoreError: it cannot be opened, or is no database.
    """
    writable = refusal is None
    flags = apsw.SQLITE_OPEN_READWRITE if writable else apsw.SQLITE_OPEN_READONLY
    name = path
    if immutable:
        name = Path(path).as_uri() + "?immutable=1"
        flags |= apsw.SQLITE_OPEN_URI
    try:
        connection = apsw.Connection(name, flags=flags)
        with ExitStack() as closing:
            closing.callback(connection.close)
            connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            if writable:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            else:
                connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            closing.pop_all()
    except apsw.Error as error:
        raise store_error(error, path) from error
    return Database(connection, path, refusal)
