"""Names for imported conversations: the same words, read twice, get the same ids.

That is how a file that was imported before is recognized without a ledger: its conversations are
there under the names that it would get again. A file that has grown since has other words, so
another name: it becomes a conversation beside the first, and nothing is overwritten.
"""

import hashlib

import msgspec
from msgspec.structs import replace

from llmchat.store.ids import made_id, new_id
from llmchat.values import Generation, SavedConversation, SavedMessage


def derived(saved: SavedConversation) -> SavedConversation:
    """The conversation under names that its content decides."""
    words = replace(saved, blobs={})  # named by their hashes: a file without the bytes is the same
    digest = hashlib.sha256(msgspec.json.encode(words)).digest()
    names = {
        message.id: made_id(message.created or saved.created, _tail(digest, number))
        for number, message in enumerate(saved.messages)
    }
    return _renamed(saved, made_id(saved.created, digest), names)


def fresh(saved: SavedConversation) -> SavedConversation:
    """The conversation under names that nothing else has."""
    return _renamed(saved, new_id(), {message.id: new_id() for message in saved.messages})


def _tail(digest: bytes, number: int) -> bytes:
    return hashlib.sha256(digest + number.to_bytes(8, "big")).digest()


def _renamed(saved: SavedConversation, id_: str, names: dict[str, str]) -> SavedConversation:
    def name(old: str | None) -> str | None:
        return None if old is None else names[old]

    messages = tuple(
        replace(
            message,
            id=names[message.id],
            parent=name(message.parent),
            deleted=name(message.deleted),
            generation=_made(message, names),
        )
        for message in saved.messages
    )
    return replace(saved, id=id_, messages=messages, active_leaf=name(saved.active_leaf))


def _made(message: SavedMessage, names: dict[str, str]) -> Generation | None:
    made = message.generation
    if made is None or made.left_out is None:
        return made
    ids = tuple(names.get(old, old) for old in made.left_out.messages)
    return replace(made, left_out=replace(made.left_out, messages=ids))
