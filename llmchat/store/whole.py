"""A conversation out of the store and into it, whole: every message, marks and token ids too.

Owns reading and writing of whole trees. Refuses to judge: what is written has been checked, and
its ids are free (`taken` says which are not). A reply that is still being written is read as
interrupted, with the text so far.
"""

from collections.abc import Mapping, Sequence

from llmchat.store import rows
from llmchat.store.conversations import next_seq
from llmchat.store.database import Database
from llmchat.store.tree import Tree, index, write_parts
from llmchat.values import Conversation, Message, SavedConversation, SavedMessage

_AT_ONCE = 500
"""Ids in one statement."""


def read_whole(db: Database, tree: Tree, conversation: Conversation) -> SavedConversation:
    """Everything of one conversation, deleted messages included."""
    bindings = (conversation.id,)
    marks = {
        str(id_): str(mark)
        for id_, mark in db.read(
            "SELECT id, deleted FROM message WHERE conversation = ? AND deleted IS NOT NULL",
            bindings,
        )
    }
    tokens = {
        str(id_): (str(vocab), rows.unpack_tokens(ids))
        for id_, vocab, ids in db.read(
            """SELECT id, vocab, ids FROM tokens JOIN message ON message.seq = tokens.message
                WHERE conversation = ?""",
            bindings,
        )
    }
    return as_saved(conversation, tree.all(conversation.id, deleted=True), marks, tokens)


def as_saved(
    conversation: Conversation,
    found: Sequence[Message],
    marks: Mapping[str, str],
    tokens: Mapping[str, tuple[str, tuple[int, ...]]],
) -> SavedConversation:
    """A conversation with its messages, parents first, as one value.

    What follows a message that a damaged file has lost becomes a root, so that it can be read back.

    Args:
        conversation: its row.
        found: its messages, in order of creation.
        marks: of deleted messages, the message whose deletion took each along.
        tokens: of replies, the vocabulary's hash and the token ids.
    """
    there = {message.id for message in found}
    return SavedConversation(
        id=conversation.id,
        title=conversation.title,
        created=conversation.created,
        updated=conversation.updated,
        settings=conversation.settings,
        active_leaf=conversation.active_leaf if conversation.active_leaf in there else None,
        source=conversation.source,
        pinned=conversation.pinned,
        folder=conversation.folder,
        deleted=conversation.deleted,
        messages=tuple(
            _saved(
                message,
                message.parent if message.parent in there else None,
                _mark(message.id, marks, there),
                *tokens.get(message.id, ("", ())),
            )
            for message in found
        ),
    )


def _mark(message: str, marks: Mapping[str, str], there: set[str]) -> str | None:
    """Whose deletion took it along; its own where that one is lost."""
    mark = marks.get(message)
    return mark if mark is None or mark in there else message


def _saved(
    message: Message, parent: str | None, deleted: str | None, vocab: str, tokens: tuple[int, ...]
) -> SavedMessage:
    return SavedMessage(
        id=message.id,
        parent=parent,
        role=message.role,
        parts=message.parts,
        status="interrupted" if message.status == "streaming" else message.status,
        created=message.created,
        generation=message.generation,
        error=message.error,
        deleted=deleted,
        vocab=vocab,
        tokens=tokens,
    )


def taken(db: Database, messages: Sequence[str]) -> dict[str, str]:
    """Those of these messages that the store has, with their conversations."""
    found: dict[str, str] = {}
    for start in range(0, len(messages), _AT_ONCE):
        some = messages[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        for id_, conversation in db.read(
            f"SELECT id, conversation FROM message WHERE id IN ({marks})", some
        ):
            found[str(id_)] = str(conversation)
    return found


def write_whole(db: Database, saved: SavedConversation) -> None:
    """Add a conversation, all or nothing. Nothing that is there is changed.

    Raises:
        StoreError: it could not be written; nothing of it is in the file then.
    """
    with db.transaction():
        db.write(
            """INSERT INTO conversation (id, title, created, updated, touched, settings,
                active_leaf, source, pinned, folder, deleted)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                saved.id,
                rows.storable(saved.title),
                saved.created,
                saved.updated,
                next_seq(db),
                rows.to_json(saved.settings),
                saved.active_leaf,
                rows.storable(saved.source),
                saved.pinned,
                None if saved.folder is None else rows.storable(saved.folder),
                saved.deleted,
            ),
        )
        for message in saved.messages:
            write_message(db, saved.id, message, parent=message.parent)


def write_message(
    db: Database, conversation: str, message: SavedMessage, *, parent: str | None
) -> None:
    """Add one message below `parent`, which is there. Part of a transaction."""
    seq = next_seq(db)
    db.write(
        """INSERT INTO message
            (seq, id, conversation, parent, role, status, created, error, deleted)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            seq,
            message.id,
            conversation,
            parent,
            message.role,
            message.status,
            message.created,
            None if message.error is None else rows.storable(message.error),
            message.deleted,
        ),
    )
    write_parts(db, seq, message.parts)
    index(db, seq)
    made = message.generation
    if made is not None:
        db.write(
            "INSERT INTO generation VALUES (?, ?, ?, ?)",
            (seq, made.model, made.finish, rows.to_json(made)),
        )
    if message.tokens:
        db.write(
            "INSERT INTO tokens VALUES (?, ?, ?)",
            (seq, message.vocab, rows.pack_tokens(message.tokens)),
        )
