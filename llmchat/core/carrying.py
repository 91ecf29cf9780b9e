"""Carrying conversations out of the store and into it, one at a time.

Owns what happens when a conversation is there already: nothing is ever overwritten. A file that was
imported before is recognized by its ids (`exporting/naming.py`); one that holds words which the
store has not becomes a conversation beside the old one.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from llmchat.core.enclosing import Enclosing, take_out
from llmchat.core.exporting import naming, reading
from llmchat.core.exporting.branches import only, words
from llmchat.core.exporting.formats import FORMATS, ExportKind
from llmchat.core.held import listed
from llmchat.core.storing import StoreThread
from llmchat.core.titles import title_from
from llmchat.errors import NotFound, StoreError
from llmchat.store.recovering import recover
from llmchat.store.store import Store
from llmchat.store.whole import read_whole, taken, write_whole
from llmchat.values import Conversation, SavedConversation

EVERYTHING = 2**31
"""More conversations than there are."""


class Imported(Struct, frozen=True, kw_only=True):
    """What became of one conversation of a file."""

    conversation: Conversation
    is_new: bool
    """False: it was there already, and nothing was done."""
    messages: int


class ImportedAll(Struct, frozen=True, kw_only=True):
    """What became of a file."""

    format: str
    """`llmchat`, `chatgpt`, `openwebui`, `lmstudio` or `openai`."""
    conversations: tuple[Imported, ...]
    left_out: int
    """Entries of the file that are empty, or no conversations."""


async def export(
    storage: StoreThread,
    ids: Sequence[str] | None,
    *,
    kind: ExportKind,
    leaf: str | None = None,
    on_left_out: Callable[[str], None] = lambda _: None,
) -> AsyncGenerator[str, None]:
    """The pieces of a text that holds conversations. It takes the memory of one of them.

    Args:
        storage: where they are.
        ids: which, deleted ones too; None: all that are not deleted, the ones used last at the end.
        kind: `json` holds whole trees with their deleted messages, and is what `import_` takes
            back without loss; the others hold a branch.
        leaf: the end of the branch to write, instead of the active one; `json` then holds that
            branch alone.
        on_left_out: told the name of each attachment whose bytes `json` goes without, because they
            are too much together (`enclosing.MOST_BYTES`) or no longer here.

    Raises:
        NotFound: there is no such conversation, or no such message in it.
    """
    form = FORMATS[kind]
    enclosing = Enclosing(storage.blobs) if kind == "json" and storage.blobs else None
    wanted = await storage.call(ids_of_all, storage) if ids is None else ids
    before = form.begin
    for id_ in wanted:
        work = partial(text_of, id_=id_, kind=kind, leaf=leaf, enclosing=enclosing)
        yield before + await storage.about(id_, work)
        before = form.between
    for name in enclosing.left_out if enclosing else ():
        on_left_out(name)
    yield form.end if wanted else form.begin + form.end


async def import_(storage: StoreThread, data: bytes, *, again: bool = False) -> ImportedAll:
    """Add the conversations of a file of ours or of another program; see `core/exporting/`.

    Nothing that is here is changed. What was imported before is told and not doubled, unless
    `again` asks for new copies. Conversations are saved one by one: what was saved before a disk
    got full stays, and importing the file once more adds the rest.

    Raises:
        StoreError: the file is too large, damaged, or none that we know, and nothing was saved; or
            the store cannot be written.
    """
    file = await asyncio.to_thread(reading.read, data)
    done = []
    for saved in file.conversations:
        if storage.blobs is not None:
            saved = await asyncio.to_thread(take_out, saved, storage.blobs)
        done.append(await storage.call(bring_in, storage.store, saved, again=again))
    return ImportedAll(format=file.format, conversations=tuple(done), left_out=file.left_out)


async def recover_(storage: StoreThread, path: Path, *, again: bool = False) -> ImportedAll:
    """Add what can be read of a file of conversations, damaged or not; the file is only read.

    Raises:
        StoreError: nothing in it can be read, or the store cannot be written.
    """
    try:
        found = await asyncio.to_thread(recover, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError("store.cannot_open", path=str(path), reason=reason) from error
    if not found:
        raise StoreError("core.import_unknown")
    done = [await storage.call(bring_in, storage.store, saved, again=again) for saved in found]
    return ImportedAll(format="llmchat", conversations=tuple(done), left_out=0)


def ids_of_all(storage: StoreThread) -> list[str]:
    """Every conversation that is not deleted; the ones used last come last."""
    found = listed(storage, limit=EVERYTHING, offset=0, include_cli=True, deleted=False)
    return [conversation.id for conversation in reversed(found)]


def text_of(
    store: Store,
    id_: str,
    kind: ExportKind,
    leaf: str | None,
    enclosing: Enclosing | None = None,
) -> str:
    """One conversation as a piece of a file, with the bytes of its attachments if asked for.

    Raises:
        NotFound: there is no such conversation, or no such message in it.
    """
    saved = read_whole(store.db, store.tree, store.conversations.get(id_))
    chosen = saved if leaf is None else only(saved, leaf)
    return FORMATS[kind].one(enclosing.put_in(chosen) if enclosing else chosen)


def bring_in(store: Store, saved: SavedConversation, *, again: bool) -> Imported:
    """Add one conversation, unless it is there.

    Args:
        store: where to.
        saved: with ids of ours, or without an id of its own.
        again: a new copy, whether it is there or not.

    Raises:
        StoreError: it could not be written; nothing of it is in the file then.
    """
    with store.db.transaction():
        named = _completed(naming.fresh(saved)) if again else _named(store, saved)
        there = None if again else _find(store, named.id)
        if there is None:
            write_whole(store.db, named)
        return Imported(
            conversation=there or store.conversations.get(named.id),
            is_new=there is None,
            messages=len(named.messages),
        )


def _named(store: Store, saved: SavedConversation) -> SavedConversation:
    """Under its own ids where they are free or mean the same here; else under derived ones."""
    if not saved.id:
        return _completed(naming.derived(saved))
    ids = [message.id for message in saved.messages]
    homes = taken(store.db, ids)
    if _find(store, saved.id) is None:
        return saved if not homes else naming.derived(saved)
    is_known = all(homes.get(id_) == saved.id for id_ in ids)
    return saved if is_known else naming.derived(saved)


def _completed(saved: SavedConversation) -> SavedConversation:
    """With a title and times where another program gave none.

    After naming, since now is another moment each time.
    """
    now = time.time()
    first = next((words(message) for message in saved.messages if message.role == "user"), "")
    messages = tuple(
        message if message.created else replace(message, created=saved.created or now)
        for message in saved.messages
    )
    return replace(
        saved,
        title=saved.title or title_from(first),
        created=saved.created or now,
        updated=saved.updated or now,
        messages=messages,
    )


def _find(store: Store, id_: str) -> Conversation | None:
    try:
        return store.conversations.get(id_)
    except NotFound:
        return None
