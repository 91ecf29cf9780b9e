"""Conversations and their trees as they lie in the store: the half of `rt.chats` without a model.

Owns reading, naming, filing, searching, forking, deleting, carrying in and out. Refuses turns,
which are `chats.py`'s. Every method is a coroutine, because the store has a thread of its own.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Literal

from llmchat.core import carrying, held
from llmchat.core.exporting.formats import ExportKind
from llmchat.core.storing import StoreThread
from llmchat.errors import NotFound
from llmchat.store.search import Hit, Within
from llmchat.store.store import Store
from llmchat.values import NOTHING_SET, ChatSettings, Conversation, Message

Conversations = list[Conversation]
Branch = list[Message]
Hits = list[Hit]


SortKey = Literal["used", "created", "title"]

_SORTS: dict[str, Callable[[Conversation], tuple[bool, float | str]]] = {
    "created": lambda one: (not one.pinned, -one.created),
    "title": lambda one: (not one.pinned, one.title.casefold()),
}


class Remembered:
    """Every conversation there is. `source`: who makes new ones, `tui` or `cli`."""

    def __init__(self, storage: StoreThread, source: str) -> None:
        self._storage = storage
        self._source = source
        self.purged = False
        """Whether something was removed for good: its attachments may be without an owner now."""

    # Conversations

    async def create(
        self,
        *,
        title: str = "",
        settings: ChatSettings = NOTHING_SET,
        source: str | None = None,
    ) -> Conversation:
        """A new, empty one. Without a title it is named from its first words."""
        source = source or self._source
        return await self._storage.make(
            None,
            lambda store: store.conversations.create(title=title, settings=settings, source=source),
        )

    async def list(
        self,
        *,
        limit: int = 200,
        offset: int = 0,
        include_cli: bool = False,
        deleted: bool = False,
        folder: str | None = None,
        sort: SortKey = "used",
    ) -> Conversations:
        """The ones used last come first, pinned ones before.

        Args:
            limit: how many.
            offset: after how many.
            include_cli: one-shot questions too.
            deleted: those that are marked as deleted instead.
            folder: only those of this folder.
            sort: `created` newest first, or `title`; pinned ones before in either.
        """
        is_plain = folder is None and sort == "used"
        found = await self._storage.call(
            held.listed,
            self._storage,
            limit=limit if is_plain else carrying.EVERYTHING,
            offset=offset if is_plain else 0,
            include_cli=include_cli,
            deleted=deleted,
        )
        if is_plain:
            return found
        chosen = [one for one in found if folder is None or one.folder == folder]
        if sort != "used":
            chosen.sort(key=_SORTS[sort])
        return chosen[offset : offset + limit]

    async def get(self, id_: str) -> Conversation:
        """By its id. Raises NotFound."""
        return await self._storage.about(id_, lambda store: store.conversations.get(id_))

    async def find(self, text: str) -> Conversation:
        """By id, the beginning or end of one, or exact title. Raises NotFound."""
        return await self._storage.call(held.found, self._storage, text)

    async def last(self, *, include_cli: bool = True) -> Conversation | None:
        """The one used last."""
        return await self._storage.call(held.last, self._storage, include_cli=include_cli)

    async def rename(self, id_: str, title: str) -> None:
        """Give it a title."""
        await self._storage.about(id_, lambda store: store.conversations.rename(id_, title))

    async def pin(self, id_: str, pinned: bool) -> None:
        """Keep it at the top, or not."""
        await self._storage.about(id_, lambda store: store.conversations.pin(id_, pinned))

    async def file_under(self, id_: str, folder: str | None) -> None:
        """Put it into a folder, or none."""
        await self._storage.about(id_, lambda store: store.conversations.file_under(id_, folder))

    async def delete(self, id_: str) -> None:
        """Mark it as deleted."""
        await self._storage.about(id_, lambda store: store.conversations.delete(id_))

    async def undelete(self, id_: str) -> None:
        """Take the mark away."""
        await self._storage.about(id_, lambda store: store.conversations.undelete(id_))

    async def purge(self, id_: str) -> None:
        """Remove it and everything in it for good, deleted or not.

        Raises:
            NotFound: there is none. StoreError: the disk takes no change, not even this one.
        """
        await self._storage.call(lambda: self._storage.aside.purge(id_))
        self.purged = True

    async def configure(self, id_: str, settings: ChatSettings) -> Conversation:
        """Replace this conversation's own settings, whole."""
        return await self._storage.about(
            id_, lambda store: store.conversations.configure(id_, settings)
        )

    async def search(
        self,
        words: str,
        *,
        limit: int = 50,
        model: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Hits:
        """Everything ever said with these words, on any branch and in titles; see `Within`."""
        within = Within(model=model, since=since, until=until)
        return await self._storage.call(held.hits, self._storage, words, within, limit=limit)

    def export(
        self,
        ids: Sequence[str] | None = None,
        *,
        kind: ExportKind = "md",
        leaf: str | None = None,
        on_left_out: Callable[[str], None] = lambda _: None,
    ) -> AsyncGenerator[str, None]:
        """The pieces of a text that holds these conversations, or all; see `carrying.export`."""
        return carrying.export(self._storage, ids, kind=kind, leaf=leaf, on_left_out=on_left_out)

    async def import_(self, data: bytes, *, again: bool = False) -> carrying.ImportedAll:
        """Add the conversations of a file; see `carrying.import_`."""
        return await carrying.import_(self._storage, data, again=again)

    async def recover(self, path: Path, *, again: bool = False) -> carrying.ImportedAll:
        """Add what can be read of another file of conversations; see `carrying.recover_`."""
        return await carrying.recover_(self._storage, path, again=again)

    async def changed(self) -> bool:
        """Whether the store was written to since this was last asked, by another process or late.

        To be asked every second or so: it also writes back what the disk had refused.
        """
        settled = await self._storage.settle()
        return await self._storage.call(self._storage.store.changed) or settled

    @property
    def unsaved(self) -> tuple[str, ...]:
        """Ids of the conversations that go on in memory, because the disk takes nothing."""
        return self._storage.held

    # The tree

    async def branch(self, id_: str, leaf: str | None = None) -> Branch:
        """From the root to `leaf`, or to the active leaf."""

        def read(store: Store) -> Branch:
            end = leaf or store.conversations.get(id_).active_leaf
            return store.tree.branch(id_, end)

        return await self._storage.about(id_, read)

    async def message(self, message: str) -> Message:
        """One message. Raises NotFound."""
        return await self._storage.about(message, lambda store: store.tree.get(message))

    async def find_message(self, text: str, *, deleted: bool = False) -> Message:
        """One message by its id, the beginning or end of one; deleted ones only if asked for.

        Raises:
            NotFound: none fits, or several do.
        """
        return await self._storage.call(held.found_message, self._storage, text, deleted=deleted)

    async def named(self, text: str, *, deleted: bool = False) -> Conversation | Message:
        """A conversation as `find` has it, else a message as `find_message` has it.

        `deleted`: a deleted conversation, or any message.

        Raises:
            NotFound: there is neither, or several fit.
        """
        return await self._storage.call(held.named, self._storage, text, deleted=deleted)

    async def meant(self, text: str) -> Message:
        """A message, or of a conversation the one that its shown branch ends with.

        Raises:
            NotFound: there is neither, or the conversation is empty.
        """
        found = await self.named(text)
        if isinstance(found, Message):
            return found
        if found.active_leaf is None:
            raise NotFound("core.no_message_yet", text=text)
        return await self.message(found.active_leaf)

    async def tree(self, id_: str) -> Branch:
        """Every message of a conversation that is not deleted, parents before what follows them."""
        return await self._storage.about(id_, lambda store: store.tree.all(id_))

    async def select(self, message: str) -> Branch:
        """Make the newest branch through a message the active one, and return it."""

        def choose(store: Store) -> Branch:
            leaf = store.tree.select(message)
            return store.tree.branch(store.tree.get(leaf).conversation, leaf)

        return await self._storage.about(message, choose)

    async def fork(self, message: str) -> Conversation:
        """A new conversation with copies of the branch up to a message."""

        def copy(store: Store) -> Conversation:
            return store.conversations.get(store.tree.fork(message, source=self._source))

        return await self._storage.make(message, copy)

    async def delete_message(self, message: str) -> None:
        """Mark a message and what follows it."""
        await self._storage.about(message, lambda store: store.tree.delete(message))

    async def undelete_message(self, message: str) -> bool:
        """Undo `delete_message`; whether there was something to undo.

        Raises:
            NotFound: what it follows is deleted too.
        """
        return await self._storage.about(message, lambda store: store.tree.undelete(message))
