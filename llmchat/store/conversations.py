"""The list of conversations: making, finding, naming, pinning, deleting.

Owns the `conversation` table. Deleting marks; `purge` removes for good.
"""

import time

from llmchat.errors import NotFound
from llmchat.store import rows
from llmchat.store.database import Database
from llmchat.store.ids import LENGTH, new_id
from llmchat.values import NOTHING_SET, ChatSettings, Conversation

SHORTEST_PREFIX = 4
"""Characters of an id that may stand for it; its last ones work as well as its first."""


def next_seq(db: Database) -> int:
    """The next number of this store's own clock, which no change of the system's clock moves."""
    row = db.one("UPDATE counter SET seq = seq + 1 RETURNING seq")
    assert row is not None
    return int(str(row[0]))


class Conversations:
    """Every conversation of one store."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(
        self,
        *,
        title: str = "",
        settings: ChatSettings = NOTHING_SET,
        source: str = "tui",
        folder: str | None = None,
    ) -> Conversation:
        """A new, empty one."""
        now = time.time()
        id_ = new_id()
        with self._db.transaction():
            self._db.write(
                """INSERT INTO conversation
                    (id, title, created, updated, touched, settings, source, folder)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                (
                    id_,
                    rows.storable(title),
                    now,
                    now,
                    next_seq(self._db),
                    rows.to_json(settings),
                    source,
                    folder,
                ),
            )
        return self.get(id_)

    def get(self, id_: str) -> Conversation:
        """By its whole id, deleted or not.

        Raises:
            NotFound: there is none.
        """
        row = self._db.one(f"SELECT {rows.CONVERSATION} FROM conversation WHERE id = ?", (id_,))
        if row is None:
            raise NotFound("store.no_conversation", text=id_)
        return rows.conversation(row)

    def find(self, text: str, *, deleted: bool = False) -> Conversation:
        """By id, by the first or last characters of one, or by its exact title.

        `deleted`: among those that are marked so, and not among the others.

        Raises:
            NotFound: none fits, or several do.
        """
        wanted = text.strip()
        found = self._by_id(wanted.upper(), deleted)
        found = found or self._where("title = ?", (wanted,), deleted)
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFound("store.several_conversations", text=wanted, count=len(found))
        raise NotFound("store.no_conversation", text=wanted)

    def _by_id(self, wanted: str, deleted: bool) -> list[Conversation]:
        if not (SHORTEST_PREFIX <= len(wanted) <= LENGTH and wanted.isalnum()):
            return []
        fits = "substr(id, 1, ?1) = ?2 OR substr(id, -?1) = ?2"
        return self._where(fits, (len(wanted), wanted), deleted)

    def _where(
        self, condition: str, bindings: tuple[str | int, ...], deleted: bool
    ) -> list[Conversation]:
        marked = "IS NOT NULL" if deleted else "IS NULL"
        found = self._db.read(
            f"SELECT {rows.CONVERSATION} FROM conversation"
            f" WHERE deleted {marked} AND ({condition})",
            bindings,
        )
        return [rows.conversation(row) for row in found]

    def list(
        self,
        *,
        limit: int = 200,
        offset: int = 0,
        include_cli: bool = False,
        deleted: bool = False,
    ) -> list[Conversation]:
        """The ones used last come first, pinned ones before. `deleted`: those instead."""
        found = self._db.read(
            f"""SELECT {rows.CONVERSATION} FROM conversation
                WHERE (deleted IS NOT NULL) = ? AND (? OR source <> 'cli')
                ORDER BY pinned DESC, touched DESC LIMIT ? OFFSET ?""",
            (deleted, include_cli, limit, offset),
        )
        return [rows.conversation(row) for row in found]

    def last(self, *, include_cli: bool = True) -> Conversation | None:
        """The one used last."""
        row = self._db.one(
            f"""SELECT {rows.CONVERSATION} FROM conversation
                WHERE deleted IS NULL AND (? OR source <> 'cli') ORDER BY touched DESC LIMIT 1""",
            (include_cli,),
        )
        return None if row is None else rows.conversation(row)

    def rename(self, id_: str, title: str) -> None:
        """Give it a title."""
        self._change("UPDATE conversation SET title = ? WHERE id = ?", rows.storable(title), id_)

    def retitle(self, id_: str, before: str, title: str) -> bool:
        """Give it a title instead of `before`; nothing if it has another one by now."""
        with self._db.transaction():
            changed = self._db.write(
                "UPDATE conversation SET title = ? WHERE id = ? AND title = ?",
                (rows.storable(title), id_, rows.storable(before)),
            )
        return changed > 0

    def pin(self, id_: str, pinned: bool) -> None:
        """Keep it at the top, or not."""
        self._change("UPDATE conversation SET pinned = ? WHERE id = ?", pinned, id_)

    def file_under(self, id_: str, folder: str | None) -> None:
        """Put it into a folder, or none."""
        self._change("UPDATE conversation SET folder = ? WHERE id = ?", folder, id_)

    def configure(self, id_: str, settings: ChatSettings) -> Conversation:
        """Replace its own settings."""
        text = rows.to_json(settings)
        self._change("UPDATE conversation SET settings = ? WHERE id = ?", text, id_)
        return self.get(id_)

    def delete(self, id_: str) -> None:
        """Mark it as deleted."""
        self._change("UPDATE conversation SET deleted = ? WHERE id = ?", time.time(), id_)

    def undelete(self, id_: str) -> None:
        """Take the mark away."""
        self._change("UPDATE conversation SET deleted = ? WHERE id = ?", None, id_)

    def purge(self, id_: str) -> None:
        """Remove it and everything in it for good."""
        with self._db.transaction():
            self._db.write(
                """INSERT INTO message_fts (message_fts, rowid, text)
                    SELECT 'delete', message_text.seq, message_text.text FROM message_text
                    JOIN message USING (seq)
                    WHERE conversation = ? AND status <> 'streaming'""",
                (id_,),
            )
            self._change("DELETE FROM conversation WHERE id = ?", id_)

    def touch(self, id_: str) -> None:
        """Note that it was used just now."""
        self._db.write(
            "UPDATE conversation SET updated = ?, touched = ? WHERE id = ?",
            (time.time(), next_seq(self._db), id_),
        )

    def _change(self, sql: str, *bindings: str | float | None) -> None:
        with self._db.transaction():
            if self._db.write(sql, bindings) == 0:
                raise NotFound("store.no_conversation", text=str(bindings[-1]))
