"""Replies as they grow: begun, checkpointed in pieces, finished; and what a crash left of them.

Owns `piece`, `generation`, `tokens` and `owner`. A checkpoint appends and never rewrites, so its
cost does not grow with the reply.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from llmchat.errors import StoreError
from llmchat.store import rows
from llmchat.store.conversations import Conversations
from llmchat.store.database import Database
from llmchat.store.owner import Owner, is_gone, sweep
from llmchat.store.tree import Tree, index, unindex, write_parts
from llmchat.values import Generation, Message, MessageStatus, Part, PartKind, Role

PIECE_BYTES = 16 * 1024
"""The most that one row of `piece` holds."""


class Ending(Struct, frozen=True, kw_only=True):
    """How a reply ended: everything that is saved with it."""

    message: str
    parts: tuple[Part, ...]
    status: MessageStatus
    generation: Generation | None = None
    error: str | None = None
    tokens: tuple[int, ...] = ()
    vocab: str = ""
    is_nothing: bool = False
    """Nobody wrote a word of it: it is removed, unless it was marked or something follows it."""


class Replies:
    """Writing replies into the tree, as one owner."""

    def __init__(
        self,
        db: Database,
        conversations: Conversations,
        tree: Tree,
        locks: Path | None,
        face: str,
    ) -> None:
        self._db = db
        self._conversations = conversations
        self._tree = tree
        self._locks = locks
        self._face = face
        self._owner: Owner | None = None

    def _register(self) -> str:
        """Our name as a writer, taken with the first reply: who only reads writes nothing."""
        if self._owner is None:
            self._owner = Owner(self._locks)
        self._db.write(
            "INSERT OR IGNORE INTO owner VALUES (?, ?, ?, ?)",
            (self._owner.id, self._face, os.getpid(), time.time()),
        )
        return self._owner.id

    def begin(
        self,
        conversation: str,
        parent: str | None,
        *,
        question: tuple[Part, ...] | None = None,
        n: int = 1,
        first_parts: tuple[Part, ...] = (),
        title: str = "",
    ) -> tuple[str | None, tuple[str, ...]]:
        """Save the user's words and the rows of `n` replies to them, all or nothing.

        Args:
            conversation: its id.
            parent: what the question, or without one the replies, follow.
            question: the user's words; None answers `parent` again.
            n: how many replies.
            first_parts: what each reply begins with.
            title: the conversation's title if it has none yet.

        Returns:
            The ids of the question, if any, and of the replies.
        """
        asked: str | None = None
        with self._db.transaction():
            owner = self._register()
            if question is not None:
                answers = all(part.kind == "tool_result" for part in question)
                role: Role = "tool" if answers else "user"
                asked = parent = self._tree.add(conversation, parent, role, question)
            replies = tuple(
                self._tree.add(
                    conversation,
                    parent,
                    "assistant",
                    first_parts,
                    status="streaming",
                    owner=owner,
                )
                for _ in range(n)
            )
            self._tree.set_active(conversation, replies[0] if replies else asked)
            self._conversations.touch(conversation)
            self._db.write(
                "UPDATE conversation SET title = ? WHERE id = ? AND title = ''",
                (rows.storable(title), conversation),
            )
        return asked, replies

    def checkpoint(self, pieces: list[tuple[str, PartKind, str]]) -> None:
        """Append what has arrived: (message, kind, text), in order."""
        with self._db.transaction():
            for message, kind, text in pieces:
                for slice_ in _slices(rows.storable(text)):
                    self._db.write(
                        """INSERT INTO piece (message, kind, text)
                            SELECT seq, ?, ? FROM message WHERE id = ?""",
                        (kind, slice_, message),
                    )

    def finish(self, endings: list[Ending], back_to: str | None = None) -> list[Message]:
        """Save how replies ended, all or nothing.

        Args:
            endings: of each reply.
            back_to: the leaf that is shown again where the reply that was shown `is_nothing`.

        Returns:
            Those that are kept.
        """
        kept = []
        with self._db.transaction():
            for ending in endings:
                if ending.is_nothing and self._tree.remove_begun(ending.message, back_to):
                    continue
                self._end(ending)
                kept.append(ending.message)
        return [self._tree.get(message) for message in kept]

    def _end(self, ending: Ending) -> None:
        row = self._db.one("SELECT seq FROM message WHERE id = ?", (ending.message,))
        if row is None:
            return  # its conversation was purged meanwhile
        seq = int(str(row[0]))
        self._unwrite(seq)
        write_parts(self._db, seq, ending.parts)
        self._db.write(
            "UPDATE message SET status = ?, error = ?, owner = NULL WHERE seq = ?",
            (ending.status, ending.error, seq),
        )
        index(self._db, seq)
        made = ending.generation
        if made is not None:
            self._db.write(
                "INSERT OR REPLACE INTO generation VALUES (?, ?, ?, ?)",
                (seq, made.model, made.finish, rows.to_json(made)),
            )
        if ending.tokens:
            self._db.write(
                "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?)",
                (seq, ending.vocab, rows.pack_tokens(ending.tokens)),
            )

    def _unwrite(self, seq: int) -> None:
        """Remove what a reply has of content so far, so that its final content can be written."""
        unindex(self._db, seq)
        self._db.write("DELETE FROM part WHERE message = ?", (seq,))
        self._db.write("DELETE FROM piece WHERE message = ?", (seq,))

    def tokens(self, messages: list[str]) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The vocabulary's hash and the token ids of replies that have them, by message."""
        marks = ",".join("?" * len(messages))
        return {
            str(id_): (str(vocab), rows.unpack_tokens(ids))
            for id_, vocab, ids in self._db.read(
                f"""SELECT id, vocab, ids FROM message JOIN tokens ON message = seq
                    WHERE id IN ({marks})""",
                messages,
            )
        }

    def recover(self, sentence: str) -> int:
        """Mark as interrupted, with their text, the replies whose writer has ended.

        Returns:
            How many there were.
        """
        locks = self._locks
        if locks is None:
            return 0
        owners = [str(id_) for (id_,) in self._db.read("SELECT id FROM owner")]
        ours = None if self._owner is None else self._owner.id
        gone = [id_ for id_ in owners if id_ != ours and is_gone(locks, id_)]
        count = sum(self._recover_one(owner, sentence) for owner in gone)
        sweep(locks)
        return count

    def _recover_one(self, owner: str, sentence: str) -> int:
        with self._db.transaction():
            left = self._db.read(
                "SELECT id FROM message WHERE status = 'streaming' AND owner = ?", (owner,)
            )
            for (id_,) in left:
                message = self._tree.get(str(id_))
                self._end(
                    Ending(
                        message=message.id,
                        parts=message.parts,
                        status="interrupted",
                        error=sentence,
                    )
                )
            self._db.write("DELETE FROM owner WHERE id = ?", (owner,))
        return len(left)

    def close(self) -> None:
        """Give the owner's name up. Replies that still stream become recoverable by anyone.

        A disk that takes nothing keeps the row: whoever opens the store next removes it.
        """
        if self._owner is None:
            return
        try:
            with suppress(StoreError), self._db.transaction():
                self._db.write(
                    """DELETE FROM owner WHERE id = ?1 AND NOT EXISTS
                        (SELECT 1 FROM message WHERE status = 'streaming' AND owner = ?1)""",
                    (self._owner.id,),
                )
        finally:
            self._owner.close()


def _slices(text: str) -> list[str]:
    """`text` in pieces of at most `PIECE_BYTES` bytes of UTF-8."""
    step = PIECE_BYTES // 4
    if len(text) <= step:
        return [text] if text else []
    return [text[start : start + step] for start in range(0, len(text), step)]
