"""How an older file becomes today's: named steps, each in its own transaction with a ledger row.

A released step is never edited; a change is a new function at the end of `STEPS`. A ledger that
names a step we do not know was written by a newer llmchat: such a file is read, not written. Names
and not numbers, so that two branches can each add one.
"""

import time
from collections.abc import Callable
from pathlib import Path

from llmchat.store.database import Database

Step = Callable[[Database], None]


def tree_of_messages(db: Database) -> None:
    """Conversations, messages in a tree, their parts, and how each reply came to be."""
    db.write("CREATE TABLE counter (seq INTEGER NOT NULL)")
    db.write("INSERT INTO counter VALUES (0)")
    db.write(
        """CREATE TABLE owner (
            id TEXT PRIMARY KEY, face TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL
        ) WITHOUT ROWID"""
    )
    db.write(
        """CREATE TABLE conversation (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            title TEXT NOT NULL,
            created REAL NOT NULL,
            updated REAL NOT NULL,
            touched INTEGER NOT NULL,
            settings TEXT NOT NULL,
            active_leaf TEXT,
            source TEXT NOT NULL,
            pinned INTEGER NOT NULL DEFAULT 0,
            folder TEXT,
            deleted REAL
        )"""
    )
    db.write("CREATE INDEX conversation_touched ON conversation (pinned DESC, touched DESC)")
    db.write(
        """CREATE TABLE message (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            conversation TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
            parent TEXT REFERENCES message (id) ON DELETE CASCADE,
            role TEXT NOT NULL,
            status TEXT NOT NULL,
            owner TEXT,
            created REAL NOT NULL,
            error TEXT,
            deleted TEXT,
            meta TEXT NOT NULL DEFAULT '{}'
        )"""
    )
    db.write("CREATE INDEX message_conversation ON message (conversation, seq)")
    db.write("CREATE INDEX message_parent ON message (parent)")
    db.write("CREATE INDEX message_streaming ON message (owner) WHERE status = 'streaming'")
    db.write(
        """CREATE TABLE part (
            message INTEGER NOT NULL REFERENCES message (seq) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            kind TEXT NOT NULL,
            text TEXT NOT NULL,
            blob TEXT,
            meta TEXT NOT NULL DEFAULT '{}',
            PRIMARY KEY (message, position)
        )"""
    )
    db.write(
        """CREATE TABLE piece (
            number INTEGER PRIMARY KEY,
            message INTEGER NOT NULL REFERENCES message (seq) ON DELETE CASCADE,
            kind TEXT NOT NULL,
            text TEXT NOT NULL
        )"""
    )
    db.write("CREATE INDEX piece_message ON piece (message, number)")
    db.write(
        """CREATE TABLE generation (
            message INTEGER PRIMARY KEY REFERENCES message (seq) ON DELETE CASCADE,
            model TEXT NOT NULL,
            finish TEXT,
            record TEXT NOT NULL
        )"""
    )
    db.write(
        """CREATE TABLE tokens (
            message INTEGER PRIMARY KEY REFERENCES message (seq) ON DELETE CASCADE,
            vocab TEXT NOT NULL,
            ids BLOB NOT NULL
        )"""
    )


def full_text_search(db: Database) -> None:
    """An index over every finished message and every title; the words themselves stay in `part`."""
    db.write(
        """CREATE VIEW message_text (seq, text) AS
            SELECT seq, (
                SELECT group_concat(text, char(10)) FROM (
                    SELECT text FROM part
                    WHERE part.message = message.seq AND kind IN ('text', 'file')
                    ORDER BY position
                )
            ) FROM message"""
    )
    db.write(
        """CREATE VIRTUAL TABLE message_fts USING fts5 (
            text, content='message_text', content_rowid='seq',
            tokenize="unicode61 remove_diacritics 2"
        )"""
    )
    db.write(
        """CREATE VIRTUAL TABLE title_fts USING fts5 (
            title, content='conversation', content_rowid='number',
            tokenize="unicode61 remove_diacritics 2"
        )"""
    )
    db.write(
        """CREATE TRIGGER title_added AFTER INSERT ON conversation BEGIN
            INSERT INTO title_fts (rowid, title) VALUES (new.number, new.title);
        END"""
    )
    db.write(
        """CREATE TRIGGER title_changed AFTER UPDATE OF title ON conversation BEGIN
            INSERT INTO title_fts (title_fts, rowid, title)
                VALUES ('delete', old.number, old.title);
            INSERT INTO title_fts (rowid, title) VALUES (new.number, new.title);
        END"""
    )
    db.write(
        """CREATE TRIGGER title_removed AFTER DELETE ON conversation BEGIN
            INSERT INTO title_fts (title_fts, rowid, title)
                VALUES ('delete', old.number, old.title);
        END"""
    )


def file_names_in_search(db: Database) -> None:
    """What is attached is found by its name too."""
    attached = """FROM message_text JOIN message USING (seq)
        WHERE status <> 'streaming' AND EXISTS (
            SELECT 1 FROM part WHERE part.message = seq AND kind IN ('file', 'image')
        )"""
    db.write(
        "INSERT INTO message_fts (message_fts, rowid, text)"
        f" SELECT 'delete', seq, message_text.text {attached}"
    )
    db.write("DROP VIEW message_text")
    db.write(
        """CREATE VIEW message_text (seq, text) AS
            SELECT seq, (
                SELECT group_concat(text, char(10)) FROM (
                    SELECT CASE
                        WHEN kind = 'text' THEN text
                        WHEN NOT json_valid(meta) THEN text
                        ELSE coalesce(json_extract(meta, '$.name') || char(10), '') || text
                    END AS text FROM part
                    WHERE part.message = message.seq AND kind IN ('text', 'file', 'image')
                    ORDER BY position
                )
            ) FROM message"""
    )
    db.write(f"INSERT INTO message_fts (rowid, text) SELECT seq, message_text.text {attached}")


STEPS: tuple[Step, ...] = (tree_of_messages, full_text_search, file_names_in_search)
"""In the order they are applied. Append only."""

_LEDGER = "CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, applied REAL NOT NULL)"


def applied(db: Database) -> set[str]:
    """The names in the file's ledger; empty for a new file."""
    if db.one("SELECT 1 FROM sqlite_schema WHERE name = 'migration'") is None:
        return set()
    return {str(name) for (name,) in db.read("SELECT name FROM migration")}


def is_newer(db: Database, steps: tuple[Step, ...] = STEPS) -> bool:
    """Whether a newer llmchat has changed this file."""
    return not applied(db) <= {step.__name__ for step in steps}


def is_behind(db: Database, steps: tuple[Step, ...] = STEPS) -> bool:
    """Whether there are steps to apply."""
    return not {step.__name__ for step in steps} <= applied(db)


def migrate(db: Database, backup: Path | None, steps: tuple[Step, ...] = STEPS) -> Path | None:
    """Apply what is pending. Killed at any moment, the file is at one step or the next.

    Args:
        db: open for writing.
        backup: a stem for the copy that is made before the first pending step of an existing
            file; None makes none.
        steps: all of them, in order.

    Returns:
        The copy, if one was made.

    Raises:
        StoreError: a step or the copy failed; the file is as it was before that step.
    """
    before = applied(db)
    pending = [step for step in steps if step.__name__ not in before]
    copy = None
    if pending and before and backup is not None:
        copy = backup.with_name(f"{backup.name}.before-{pending[0].__name__}")
        db.copy_to(copy)
    for step in pending:
        with db.transaction():
            db.write(_LEDGER)
            if step.__name__ in applied(db):
                continue  # another process was faster
            step(db)
            db.write("INSERT INTO migration VALUES (?, ?)", (step.__name__, time.time()))
    return copy
