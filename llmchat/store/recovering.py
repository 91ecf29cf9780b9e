"""Conversations out of a damaged file, as many of their words as are there.

Owns which of the rows that were carved (`carving.py`) is what, by its shape, and putting them
together again. A message whose conversation is lost begins one without a title; one whose parent is
lost becomes a root. Refuses to write: the damaged file is only read.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Final

from msgspec import Struct

from llmchat.store import rows
from llmchat.store.carving import Carver, Record
from llmchat.store.database import Row
from llmchat.store.ids import LENGTH
from llmchat.store.whole import as_saved
from llmchat.values import Conversation, Generation, Message, SavedConversation

_ID: Final = re.compile(rf"[0-9A-Z]{{{LENGTH}}}")


class _Found(Struct, kw_only=True):
    """What was carved, by table. Rows are as the tables' columns, with the rowid first."""

    conversations: dict[str, Record] = {}
    messages: dict[int, Record] = {}
    parts: dict[int, dict[int, Record]] = {}
    pieces: dict[int, dict[int, Record]] = {}
    generations: dict[int, Record] = {}
    tokens: dict[int, Record] = {}


def recover(path: Path) -> list[SavedConversation]:
    """Everything of a damaged store that can still be read, in order of creation.

    Args:
        path: the file; its write-ahead log is read with it.

    Raises:
        OSError: the file cannot be opened.
    """
    found = _Found()
    with Carver(path) as carver:
        for rowid, values in carver.rows():
            _sort(found, rowid, values)
    return _conversations(found)


def _sort(found: _Found, rowid: int, values: Record) -> None:
    """Put a row where it belongs. SQLite stores an INTEGER PRIMARY KEY as NULL: it is the rowid."""
    match values:
        case (None, str(id_), str(), _, _, int(), str(), *rest) if len(rest) >= 5 and _is_id(id_):
            found.conversations[id_] = values
        case (None, str(id_), str(chat), _, str(), str(), *rest) if (
            len(rest) >= 5 and _is_id(id_) and _is_id(chat)
        ):
            found.messages[rowid] = values
        case (int(message), int(position), str(), str(), _, str(), *_):
            found.parts.setdefault(message, {})[position] = values
        case (None, int(message), str(), str()):
            found.pieces.setdefault(message, {})[rowid] = values
        case (None, str(), _, str(text)) if text.startswith("{"):
            found.generations[rowid] = values
        case (None, str(), bytes()):
            found.tokens[rowid] = values


def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def _conversations(found: _Found) -> list[SavedConversation]:
    trees: dict[str, list[int]] = defaultdict(list)
    newest = {str(row[1]): seq for seq, row in sorted(found.messages.items())}
    for seq in sorted(newest.values()):
        trees[str(found.messages[seq][2])].append(seq)
    for id_ in found.conversations:
        trees.setdefault(id_, [])
    return [_assembled(found, id_, seqs) for id_, seqs in trees.items()]


def _assembled(found: _Found, id_: str, seqs: list[int]) -> SavedConversation:
    messages = [_message(found, seq) for seq in seqs]
    marks = {
        str(row[1]): str(row[9])
        for row in map(found.messages.__getitem__, seqs)
        if row[9] is not None
    }
    tokens = {
        str(found.messages[seq][1]): (str(found.tokens[seq][1]), _ids(found.tokens[seq][2]))
        for seq in seqs
        if seq in found.tokens
    }
    return as_saved(
        _conversation(found.conversations.get(id_), id_, messages), messages, marks, tokens
    )


def _conversation(row: Record | None, id_: str, messages: list[Message]) -> Conversation:
    if row is None:
        created = messages[0].created if messages else 0.0
        leaf = messages[-1].id if messages else None
        return Conversation(
            id=id_, title="", created=created, updated=created, source="tui", active_leaf=leaf
        )
    _, _, title, created_, updated, _, settings, leaf_, source, pinned, folder, deleted, *_ = row
    columns: Row = (
        id_, title, created_, updated, settings, leaf_, source, pinned, folder, deleted,
    )  # fmt: skip
    return rows.conversation(columns)


def _message(found: _Found, seq: int) -> Message:
    _, id_, chat, parent, role, status, _, created, error, *_ = found.messages[seq]
    parts = [
        rows.part(kind, text, blob, meta)
        for _, (_, _, kind, text, blob, meta, *_) in sorted(found.parts.get(seq, {}).items())
    ]
    parts += [
        rows.part(kind, text, None, "{}")
        for _, (_, _, kind, text) in sorted(found.pieces.get(seq, {}).items())
    ]
    made = found.generations.get(seq)
    generation = None if made is None else rows.from_json(made[3], Generation)
    columns: Row = (seq, id_, chat, parent, role, status, created, error)
    return rows.message(columns, rows.merged(parts), generation)


def _ids(blob: object) -> tuple[int, ...]:
    """Token ids; none when the blob is cut."""
    return rows.unpack_tokens(blob) if isinstance(blob, bytes) and len(blob) % 4 == 0 else ()
