"""Reading across the disk and what is held in memory beside it, as if it were one store.

Runs on the store's thread. With nothing held it costs nothing.
"""

from collections.abc import Callable
from typing import TypeVar

from llmchat.core.storing import StoreThread
from llmchat.errors import NotFound
from llmchat.store.search import Hit, Within
from llmchat.store.store import Store
from llmchat.values import Conversation, Message

R = TypeVar("R")


def listed(
    storage: StoreThread, *, limit: int, offset: int, include_cli: bool, deleted: bool
) -> list[Conversation]:
    """The ones used last come first, pinned ones before; what is held was used last."""
    held = set(storage.held)
    read = storage.store.conversations.list
    if not held:
        return read(limit=limit, offset=offset, include_cli=include_cli, deleted=deleted)
    inside = storage.aside.memory.conversations.list(
        limit=len(held), include_cli=include_cli, deleted=deleted
    )
    outside = read(limit=offset + limit + len(held), include_cli=include_cli, deleted=deleted)
    every = [*inside, *(found for found in outside if found.id not in held)]
    every.sort(key=lambda conversation: not conversation.pinned)  # stable: else as they came
    return every[offset : offset + limit]


def last(storage: StoreThread, *, include_cli: bool) -> Conversation | None:
    """The one used last."""
    if storage.held:
        inside = storage.aside.memory.conversations.last(include_cli=include_cli)
        if inside is not None:
            return inside
    return storage.store.conversations.last(include_cli=include_cli)


def found(storage: StoreThread, text: str, *, deleted: bool = False) -> Conversation:
    """By id, the beginning or end of one, or exact title; `deleted`: among those instead.

    Raises:
        NotFound: none fits, or several do.
    """

    def find(store: Store) -> Conversation:
        return store.conversations.find(text, deleted=deleted)

    return _first(storage, find)


def found_message(storage: StoreThread, text: str, *, deleted: bool = False) -> Message:
    """A message by id, or by the beginning or end of one.

    Raises:
        NotFound: none fits, or several do.
    """

    def find(store: Store) -> Message:
        return store.tree.find(text, deleted=deleted)

    return _first(storage, find)


def named(storage: StoreThread, text: str, *, deleted: bool = False) -> Conversation | Message:
    """A conversation, else a message; `deleted`: a deleted conversation, or any message.

    Raises:
        NotFound: there is neither, or several fit.
    """
    try:
        return found(storage, text, deleted=deleted)
    except NotFound as error:
        if error.key != "store.no_conversation":
            raise
    try:
        return found_message(storage, text, deleted=deleted)
    except NotFound as error:
        if error.key != "store.no_message":
            raise
        raise NotFound("store.nothing_named", text=text.strip()) from error


def _first(storage: StoreThread, find: Callable[[Store], R]) -> R:
    if storage.held:
        try:
            return find(storage.aside.memory)
        except NotFound:
            pass  # it may be on the disk
    return find(storage.store)


def hits(storage: StoreThread, words: str, within: Within, *, limit: int) -> list[Hit]:
    """Everything that was said with these words, what is held first."""
    held = set(storage.held)
    outside = storage.store.search(words, within, limit=limit)
    if not held:
        return outside
    inside = storage.aside.memory.search(words, within, limit=limit)
    return [*inside, *(hit for hit in outside if hit.conversation not in held)][:limit]
