"""The tree of messages: adding, branches, siblings, choosing, forking, deleting.

Owns `message` and `part` as they are read. A branch is the path from a root to a leaf; a
conversation may have several roots, since its first message can be edited.
"""

import time
from collections.abc import Sequence

from llmchat.errors import NotFound
from llmchat.store import rows
from llmchat.store.conversations import SHORTEST_PREFIX, Conversations, next_seq
from llmchat.store.database import Database, Row
from llmchat.store.ids import LENGTH, new_id
from llmchat.values import Generation, Message, MessageStatus, Part, Role

_UP = """WITH RECURSIVE branch (id, parent) AS (
    SELECT id, parent FROM message WHERE id = ?
    UNION ALL SELECT message.id, message.parent
        FROM message JOIN branch ON message.id = branch.parent
)"""

_DOWN = """WITH RECURSIVE below (id) AS (
    SELECT id FROM message WHERE id = ?
    UNION ALL SELECT message.id FROM message JOIN below ON message.parent = below.id
)"""


class Tree:
    """Every message of one store."""

    def __init__(self, db: Database, conversations: Conversations) -> None:
        self._db = db
        self._conversations = conversations

    def get(self, message: str) -> Message:
        """One message with everything that belongs to it.

        Raises:
            NotFound: there is none.
        """
        row = self._row(message)
        condition, bindings = "message.id = ?", (message,)
        siblings = self._siblings(str(row[2]))
        return self._assemble([row], condition, bindings, siblings)[0]

    def find(self, text: str, *, deleted: bool = False) -> Message:
        """By id, or by the first or last characters of one; deleted ones only if asked for.

        Raises:
            NotFound: none fits, or several do.
        """
        wanted = text.strip().upper()
        found: list[Row] = []
        if SHORTEST_PREFIX <= len(wanted) <= LENGTH and wanted.isalnum():
            whole = "id = ?2"  # by the index; a part of one looks at every message
            part = "?2 IN (substr(id, 1, length(?2)), substr(id, -length(?2)))"
            fits = whole if len(wanted) == LENGTH else part
            found = self._db.read(
                f"SELECT id FROM message WHERE (?1 OR deleted IS NULL) AND {fits} LIMIT 2",
                (deleted, wanted),
            )
        if len(found) == 1:
            return self.get(str(found[0][0]))
        raise NotFound("store.several_messages" if found else "store.no_message", text=text.strip())

    def branch(self, conversation: str, leaf: str | None) -> list[Message]:
        """From the root to `leaf`, each with its siblings; none for an empty conversation."""
        if leaf is None:
            return []
        found = self._db.read(
            f"{_UP} SELECT {rows.MESSAGE} FROM message WHERE id IN (SELECT id FROM branch)"
            " AND conversation = ? ORDER BY seq",
            (leaf, conversation),
        )
        if not found:
            raise NotFound("store.no_message", text=leaf)
        condition = f"message.id IN ({_UP} SELECT id FROM branch)"
        return self._assemble(found, condition, (leaf,), self._siblings(conversation))

    def all(self, conversation: str, *, deleted: bool = False) -> list[Message]:
        """The whole tree in order of creation; deleted messages only if asked for."""
        found = self._db.read(
            f"SELECT {rows.MESSAGE} FROM message"
            " WHERE conversation = ? AND (? OR deleted IS NULL) ORDER BY seq",
            (conversation, deleted),
        )
        siblings = self._siblings(conversation)
        return self._assemble(found, "message.conversation = ?", (conversation,), siblings)

    def _assemble(
        self,
        found: list[Row],
        condition: str,
        bindings: tuple[str, ...],
        siblings: dict[str | None, tuple[str, ...]],
    ) -> list[Message]:
        """Messages from their rows, with parts and generations read in one go each."""
        parts: dict[object, list[Part]] = {}
        for seq, *columns in self._db.read(
            f"""SELECT part.message, part.kind, CAST(part.text AS BLOB), part.blob, part.meta
                FROM message JOIN part ON part.message = message.seq
                WHERE {condition} ORDER BY part.message, part.position""",
            bindings,
        ):
            parts.setdefault(seq, []).append(rows.part(*columns))
        for seq, kind, text in self._db.read(
            f"""SELECT piece.message, piece.kind, CAST(piece.text AS BLOB)
                FROM message JOIN piece ON piece.message = message.seq
                WHERE {condition} ORDER BY piece.number""",
            bindings,
        ):
            parts.setdefault(seq, []).append(rows.part(kind, text, None, "{}"))
        made = {
            seq: rows.from_json(record, Generation)
            for seq, record in self._db.read(
                f"""SELECT generation.message, generation.record
                    FROM message JOIN generation ON generation.message = message.seq
                    WHERE {condition}""",
                bindings,
            )
        }
        return [
            rows.message(
                row,
                rows.merged(parts.get(row[0], ())),
                made.get(row[0]),
                siblings.get(None if row[3] is None else str(row[3]), ()),
            )
            for row in found
        ]

    def _siblings(self, conversation: str) -> dict[str | None, tuple[str, ...]]:
        """The versions at each place: ids by their parent, in order of `seq`."""
        places: dict[str | None, list[str]] = {}
        for id_, parent in self._db.read(
            "SELECT id, parent FROM message"
            " WHERE conversation = ? AND deleted IS NULL ORDER BY seq",
            (conversation,),
        ):
            places.setdefault(None if parent is None else str(parent), []).append(str(id_))
        return {parent: tuple(ids) for parent, ids in places.items()}

    def add(
        self,
        conversation: str,
        parent: str | None,
        role: Role,
        parts: tuple[Part, ...],
        *,
        status: MessageStatus = "complete",
        owner: str | None = None,
    ) -> str:
        """Add a message below `parent` (None: a root) and return its id. Part of a transaction."""
        if parent is not None and str(self._row(parent)[2]) != conversation:
            raise NotFound("store.no_message", text=parent)
        seq, id_ = next_seq(self._db), new_id()
        self._db.write(
            """INSERT INTO message (seq, id, conversation, parent, role, status, owner, created)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            (seq, id_, conversation, parent, role, status, owner, time.time()),
        )
        write_parts(self._db, seq, parts)
        if status != "streaming":
            index(self._db, seq)
        return id_

    def set_active(self, conversation: str, leaf: str | None) -> None:
        """Make the branch that ends at `leaf` the one that is shown. Part of a transaction."""
        self._db.write("UPDATE conversation SET active_leaf = ? WHERE id = ?", (leaf, conversation))

    def select(self, message: str) -> str:
        """Make the newest branch through `message` active; returns its leaf."""
        conversation = str(self._row(message)[2])
        with self._db.transaction():
            leaf = self.newest_leaf(message)
            self.set_active(conversation, leaf)
        return leaf

    def newest_leaf(self, message: str) -> str:
        """Down from `message`, always to the newest version."""
        leaf = message
        while True:
            row = self._db.one(
                "SELECT id FROM message WHERE parent = ? AND deleted IS NULL"
                " ORDER BY seq DESC LIMIT 1",
                (leaf,),
            )
            if row is None:
                return leaf
            leaf = str(row[0])

    def delete(self, message: str) -> None:
        """Mark a message and all that follows it; the branch shown moves to what is left."""
        row = self._row(message)
        conversation, parent = str(row[2]), None if row[3] is None else str(row[3])
        with self._db.transaction():
            self._db.write(
                f"{_DOWN} UPDATE message SET deleted = ? WHERE deleted IS NULL"
                " AND id IN (SELECT id FROM below)",
                (message, message),
            )
            current = self._conversations.get(conversation).active_leaf
            if current is not None and self._is_deleted(current):
                self.set_active(conversation, self._leaf_beside(conversation, parent))

    def _leaf_beside(self, conversation: str, parent: str | None) -> str | None:
        """What is shown below `parent`: its newest branch, or itself when none is left."""
        left = self._db.one(
            "SELECT id FROM message WHERE conversation = ? AND parent IS ? AND deleted IS NULL"
            " ORDER BY seq DESC LIMIT 1",
            (conversation, parent),
        )
        return parent if left is None else self.newest_leaf(str(left[0]))

    def remove_begun(self, message: str, back_to: str | None) -> bool:
        """Remove a reply that was only begun, as if it had never been. Part of a transaction.

        Args:
            message: its id.
            back_to: the leaf that is shown again if this was; the nearest when that is gone.

        Returns:
            Whether it is gone: one that is finished, marked or followed by others stays.
        """
        found = self._db.one(
            """SELECT seq, conversation, parent FROM message
                WHERE id = ?1 AND status IN ('streaming', 'interrupted') AND deleted IS NULL
                AND NOT EXISTS (SELECT 1 FROM message WHERE parent = ?1)""",
            (message,),
        )
        if found is None:
            return False
        seq, conversation = int(str(found[0])), str(found[1])
        parent = None if found[2] is None else str(found[2])
        unindex(self._db, seq)
        self._db.write("DELETE FROM message WHERE seq = ?", (seq,))
        if self._conversations.get(conversation).active_leaf == message:
            there = back_to and not self._is_deleted(back_to) and self._is_here(back_to)
            leaf = back_to if there else self._leaf_beside(conversation, parent)
            self.set_active(conversation, leaf)
        return True

    def undelete(self, message: str) -> bool:
        """Take the marks of `delete(message)` away again, and show that branch.

        Returns:
            Whether there were any; without, nothing is changed.

        Raises:
            NotFound: what it follows is deleted too.
        """
        row = self._row(message)
        conversation, parent = str(row[2]), row[3]
        if parent is not None and self._is_deleted(str(parent)):
            raise NotFound("store.above_deleted", text=message, above=parent)
        with self._db.transaction():
            if self._db.one("SELECT 1 FROM message WHERE deleted = ?", (message,)) is None:
                return False
            self._db.write("UPDATE message SET deleted = NULL WHERE deleted = ?", (message,))
            self.set_active(conversation, self.newest_leaf(message))
        return True

    def _is_deleted(self, message: str) -> bool:
        row = self._db.one("SELECT deleted FROM message WHERE id = ?", (message,))
        return row is not None and row[0] is not None

    def _is_here(self, message: str) -> bool:
        return self._db.one("SELECT 1 FROM message WHERE id = ?", (message,)) is not None

    def fork(self, message: str, *, source: str) -> str:
        """A new conversation with copies of the branch up to `message`; returns its id."""
        row = self._row(message)
        origin = self._conversations.get(str(row[2]))
        with self._db.transaction():
            fresh = self._conversations.create(
                title=origin.title, settings=origin.settings, source=source, folder=origin.folder
            )
            leaf = self.copy_below(self.branch(origin.id, message), fresh.id, None)
            self.set_active(fresh.id, leaf)
        return fresh.id

    def copy_below(
        self, messages: Sequence[Message], conversation: str, parent: str | None
    ) -> str | None:
        """Copies of messages, one below the other; the last one's id. Part of a transaction."""
        for old in messages:
            parent = self._copy(old, conversation, parent)
        return parent

    def _copy(self, old: Message, conversation: str, parent: str | None) -> str:
        status: MessageStatus = "interrupted" if old.status == "streaming" else old.status
        copy = self.add(conversation, parent, old.role, old.parts, status=status)
        seq = self._row(copy)[0]
        for table, columns in (("generation", "model, finish, record"), ("tokens", "vocab, ids")):
            self._db.write(
                f"""INSERT INTO {table} (message, {columns})
                    SELECT ?, {columns} FROM {table} WHERE message = ?""",
                (seq, old.seq),
            )
        self._db.write("UPDATE message SET error = ? WHERE seq = ?", (old.error, seq))
        return copy

    def _row(self, message: str) -> Row:
        row = self._db.one(f"SELECT {rows.MESSAGE} FROM message WHERE id = ?", (message,))
        if row is None:
            raise NotFound("store.no_message", text=message)
        return row


def write_parts(db: Database, seq: object, parts: tuple[Part, ...]) -> None:
    """The content of a message, in order."""
    for position, part in enumerate(parts):
        db.write(
            "INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)",
            (
                int(str(seq)),
                position,
                part.kind,
                rows.storable(part.text),
                part.blob,
                rows.to_json(part.meta),
            ),
        )


def index(db: Database, seq: object) -> None:
    """Make a finished message's words findable."""
    db.write(
        "INSERT INTO message_fts (rowid, text) SELECT seq, text FROM message_text WHERE seq = ?",
        (int(str(seq)),),
    )


def unindex(db: Database, seq: int) -> None:
    """The opposite, for one that is finished; a growing one was never findable."""
    db.write(
        """INSERT INTO message_fts (message_fts, rowid, text)
            SELECT 'delete', message_text.seq, message_text.text
            FROM message_text JOIN message USING (seq)
            WHERE seq = ? AND status <> 'streaming'""",
        (seq,),
    )
