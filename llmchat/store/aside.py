"""Conversations that the disk cannot take for now, held in memory until it can.

Owns the second store in memory, what is in it, and writing it back by ids: whatever others have
written meanwhile stays. Refuses to decide when; core tries again as it goes (`core/storing.py`).
"""

from collections.abc import Iterator

from llmchat.errors import NotFound, StoreError
from llmchat.store import rows
from llmchat.store.database import SqlValue
from llmchat.store.replies import Ending
from llmchat.store.store import Store, memory_store
from llmchat.store.whole import read_whole, taken, write_message, write_whole
from llmchat.values import SavedConversation, SavedMessage

TEMPORARY = frozenset(
    {"store.full", "store.busy", "store.failed", "store.cannot_open", "store.corrupt"}
)
"""A full disk, a file that is locked for long, a disk that errs (or a quota), no room to make the
write-ahead log, a damaged page: words that were typed are not the price of any of them."""

_COLUMNS = ("title", "settings", "active_leaf", "pinned", "folder", "deleted")


def may_pass(error: StoreError) -> bool:
    """Whether to go on without the disk until it can be written again."""
    return error.key in TEMPORARY


class Aside:
    """What is held of one store on a disk. Every method runs on the store's thread."""

    def __init__(self, disk: Store, face: str) -> None:
        self._disk = disk
        self._face = face
        self._memory: Store | None = None
        self._held: dict[str, SavedConversation | None] = {}

    @property
    def held(self) -> tuple[str, ...]:
        """Ids of the conversations that are held, the oldest first."""
        return tuple(self._held)

    @property
    def memory(self) -> Store:
        """The store in memory, made when it is first needed."""
        if self._memory is None:
            self._memory = memory_store(self._face)
        return self._memory

    def where(self, about: str) -> Store:
        """The store that has a conversation, or a message, by its id."""
        return self.memory if self._conversation(about) in self._held else self._disk

    def _conversation(self, about: str) -> str | None:
        """The conversation that is meant by its id or by a message's, if it is held."""
        if about in self._held or not self._held:
            return about
        return taken(self.memory.db, [about]).get(about)

    def new(self, id_: str) -> None:
        """A conversation was created in memory."""
        self._held[id_] = None

    def hold(self, about: str) -> Store:
        """Copy a conversation into memory, named by its id or by a message's.

        Raises:
            NotFound: the disk has no such conversation.
            StoreError: it cannot be read either.
        """
        id_ = taken(self._disk.db, [about]).get(about, about)
        saved = read_whole(self._disk.db, self._disk.tree, self._disk.conversations.get(id_))
        write_whole(self.memory.db, saved)
        self._held[id_] = saved
        return self.memory

    def purge(self, id_: str) -> None:
        """Remove a conversation for good, wherever it is."""
        if id_ in self._held:
            self.memory.conversations.purge(id_)
            if self._held.pop(id_) is None:
                return  # it never was on the disk
        self._disk.conversations.purge(id_)

    def saved(self) -> Iterator[SavedConversation]:
        """What is held, whole, for a file elsewhere."""
        for id_ in self._held:
            conversation = self.memory.conversations.get(id_)
            yield read_whole(self.memory.db, self.memory.tree, conversation)

    def settle(self) -> tuple[str, ...]:
        """Write to the disk what is held and not being written in this moment.

        Returns:
            The conversations that are on the disk again.

        Raises:
            StoreError: the disk still refuses; what it has not taken stays held.
        """
        done: list[str] = []
        for id_, before in list(self._held.items()):
            if self._is_streaming(id_):
                continue
            now = read_whole(self.memory.db, self.memory.tree, self.memory.conversations.get(id_))
            self._write_back(before, now)
            self.memory.conversations.purge(id_)
            del self._held[id_]
            done.append(id_)
        return tuple(done)

    def _is_streaming(self, id_: str) -> bool:
        row = self.memory.db.one(
            "SELECT 1 FROM message WHERE conversation = ? AND status = 'streaming'", (id_,)
        )
        return row is not None

    def _write_back(self, before: SavedConversation | None, now: SavedConversation) -> None:
        with self._disk.db.transaction():
            try:
                self._disk.conversations.get(now.id)
            except NotFound:  # new, or removed for good by somebody else meanwhile
                write_whole(self._disk.db, now)
                return
            was = {} if before is None else {message.id: message for message in before.messages}
            there = taken(self._disk.db, [message.id for message in now.messages])
            for message in now.messages:
                if message.id not in there:
                    self._add(now.id, message, there)
                    there[message.id] = now.id
                elif message != was.get(message.id):
                    self._change(message)
            self._remove_begun(was, now)
            self._change_conversation(before, now)

    def _remove_begun(self, was: dict[str, SavedMessage], now: SavedConversation) -> None:
        """Replies that were begun on the disk and of which nothing came meanwhile."""
        for id_ in was.keys() - {message.id for message in now.messages}:
            self._disk.tree.remove_begun(id_, now.active_leaf)

    def _add(self, conversation: str, message: SavedMessage, there: dict[str, str]) -> None:
        parent = message.parent
        if parent is not None and parent not in there and not taken(self._disk.db, [parent]):
            write_message(self._disk.db, conversation, message, parent=None)
        else:
            write_message(self._disk.db, conversation, message, parent=parent)

    def _change(self, message: SavedMessage) -> None:
        """A message that was there already has come to its end, or was marked, meanwhile."""
        ending = Ending(
            message=message.id,
            parts=message.parts,
            status=message.status,
            generation=message.generation,
            error=message.error,
            tokens=message.tokens,
            vocab=message.vocab,
        )
        self._disk.writer.finish([ending])
        self._disk.db.write(
            "UPDATE message SET deleted = ? WHERE id = ?", (message.deleted, message.id)
        )

    def _change_conversation(
        self, before: SavedConversation | None, now: SavedConversation
    ) -> None:
        """Only what was changed while it was held; what others changed stays."""
        for column in _COLUMNS:
            value = getattr(now, column)
            if before is None or value != getattr(before, column):
                self._disk.db.write(
                    f"UPDATE conversation SET {column} = ? WHERE id = ?",
                    (_stored(column, value), now.id),
                )
        self._disk.conversations.touch(now.id)

    def close(self) -> None:
        """Forget what is held; whoever calls this has settled or told."""
        if self._memory is not None:
            self._memory.close()


def _stored(column: str, value: object) -> SqlValue:
    if column == "settings":
        return rows.to_json(value)
    if isinstance(value, str):
        return rows.storable(value)
    assert value is None or isinstance(value, int | float)
    return value
