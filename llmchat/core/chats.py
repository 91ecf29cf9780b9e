"""Conversations and turns, as the faces use them: `rt.chats`.

Owns which turns run and what each verb that asks a model means for the tree. What needs no model is
`remembering.py`'s, asking one is the turn's.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from typing import Any, Final, TypeVar

from llmchat.core.asking import Asking, Services
from llmchat.core.assigning import assignment_of, continuation_of, next_place
from llmchat.core.compacting import KEPT_TURNS, Compaction, rewritten
from llmchat.core.inforce import ContextUse, InForce, Weight
from llmchat.core.remembering import Remembered
from llmchat.core.savedstates import SavedStates
from llmchat.core.sessions import ModelSource, Sessions
from llmchat.core.settings import Resolved, SettingsService
from llmchat.core.storing import StoreThread
from llmchat.core.titles import title_from
from llmchat.core.titling import Titling
from llmchat.core.turn import Assignment, Turn
from llmchat.engine.protocol import MAX_CHOICES
from llmchat.errors import UsageError
from llmchat.store.store import Store
from llmchat.values import NOTHING_SET, ChatSettings, Conversation, Message, ModelFile, Part

T = TypeVar("T")


class Place(Enum):
    """Where a message goes when no parent is named."""

    LEAF = "leaf"


LEAF: Final = Place.LEAF
"""Below the active leaf; beside a question whose reply is still being written."""

Words = str | Sequence[Part]

Turns = list[Asking]


class Chats(Remembered):
    """Every conversation, and the turns that run."""

    def __init__(
        self,
        storage: StoreThread,
        models: ModelSource,
        sessions: Sessions,
        settings: SettingsService,
        *,
        face: str,
        notice: Callable[[str], None],
        used: Callable[[str], None],
        asked: Callable[[ModelFile], None],
        states: SavedStates,
    ) -> None:
        """`used` is told the name of each model that a turn has opened.

        `asked` is told each model that a turn is about to open.
        """
        super().__init__(storage, "tui" if face == "tui" else "cli")
        self._models = models
        self._sessions = sessions
        self._settings = settings
        self._in_force = InForce(settings, models, sessions)
        self._notice = notice
        self._used = used
        self._asked = asked
        self._states = states
        self._turns: dict[str, Asking] = {}
        self._starting: set[asyncio.Task[Any]] = set()
        self._titling = Titling(storage, self._in_force, settings, lambda: bool(self.turns()))

    async def delete(self, id_: str) -> None:
        """Mark it as deleted; its turns are stopped."""
        for turn in self.turns(id_):
            turn.cancel()
        await super().delete(id_)
        await self._states.forget(id_)

    async def purge(self, id_: str) -> None:
        """Remove it for good; its turns are stopped, and what was kept for it goes too."""
        for turn in self.turns(id_):
            await self.cancel(turn.id)
        await super().purge(id_)
        await self._states.forget(id_)

    async def undelete(self, id_: str) -> None:
        """Take the mark away."""
        await super().undelete(id_)
        await self._states.allow(id_)

    async def rename(self, id_: str, title: str) -> None:
        """Give it a title, which no model changes any more."""
        self._titling.stop(id_)
        await super().rename(id_, title)

    async def changed(self) -> bool:
        """As without a model; a title that a model gave is news too."""
        return await super().changed() or self._titling.take_news()

    async def delete_message(self, message: str) -> None:
        """Mark a message and what follows it; the turns that write there are stopped."""
        for turn in self.turns():
            if message in {reply.id for reply in turn.replies}:
                turn.cancel()
        await super().delete_message(message)

    # Turns

    async def send(
        self,
        id_: str,
        parts: Words,
        *,
        n: int = 1,
        parent: str | Place | None = LEAF,
        once: ChatSettings = NOTHING_SET,
    ) -> Turn:
        """Save the user's words, then have them answered: `n` times, side by side.

        Returns:
            The turn, whose words are on the disk.

        Raises:
            StoreError: the words could not be saved; nothing was asked.
        """
        words = _sendable(parts)
        _check_count(n)

        def save(store: Store) -> Assignment:
            with store.db.transaction():
                place = next_place(store, id_) if isinstance(parent, Place) else parent
                title = title_from("".join(part.text for part in words if part.kind == "text"))
                asked, replies = store.writer.begin(
                    id_,
                    place,
                    question=words,
                    n=n,
                    title=title if self._settings.settings.chat.titles != "off" else "",
                )
                return assignment_of(store, id_, asked, replies, end=asked)

        return await self._start(id_, save, once)

    async def regenerate(
        self, message: str, n: int = 1, *, once: ChatSettings = NOTHING_SET
    ) -> Turn:
        """Answer again: `n` new versions beside a reply, or below a question."""
        _check_count(n)

        def save(store: Store) -> Assignment:
            with store.db.transaction():
                old = store.tree.get(message)
                parent = old.parent if old.role == "assistant" else old.id
                shown = store.conversations.get(old.conversation).active_leaf
                _, replies = store.writer.begin(old.conversation, parent, n=n)
                work = assignment_of(store, old.conversation, None, replies, end=parent)
                work.back_to = shown
                return work

        return await self._start(message, save, once)

    async def continue_(self, message: str, *, once: ChatSettings = NOTHING_SET) -> Turn:
        """A version of a reply that begins with its text and goes on."""

        def save(store: Store) -> Assignment:
            with store.db.transaction():
                old = store.tree.get(message)
                if old.role != "assistant":
                    raise UsageError("core.not_a_reply")
                return continuation_of(store, old, old.parts, store.writer.tokens([old.id]))

        return await self._start(message, save, once)

    async def edit(
        self,
        message: str,
        parts: Words,
        *,
        rerun: bool = True,
        once: ChatSettings = NOTHING_SET,
    ) -> Turn | Message:
        """A version of a message with other words.

        With `rerun` a question is answered again, and a reply goes on from its new words; the
        result is the turn. Without it the result is the new message. A summary is never answered:
        what follows it follows its new version too.
        """
        words = as_parts(parts)
        rerun = rerun and (await self.message(message)).role != "system"

        def save(store: Store) -> Assignment | Message:
            with store.db.transaction():
                old = store.tree.get(message)
                if old.role == "system":
                    return rewritten(store, old, "".join(part.text for part in words))
                if rerun and old.role == "assistant":
                    return continuation_of(store, old, words)
                if rerun:
                    asked, replies = store.writer.begin(
                        old.conversation, old.parent, question=words
                    )
                    return assignment_of(store, old.conversation, asked, replies, end=asked)
                fresh = store.tree.add(old.conversation, old.parent, old.role, words)
                store.tree.set_active(old.conversation, fresh)
                store.conversations.touch(old.conversation)
                return store.tree.get(fresh)

        if not rerun:
            found = await self._storage.about(message, save)
            assert isinstance(found, Message)
            return found
        return await self._start(message, save, once)

    async def compact(self, id_: str, *, keep: int = KEPT_TURNS) -> Compaction:
        """Sum up all but the newest `keep` turns of the active branch, as a branch of its own.

        Raises:
            UsageError: there is nothing to sum up, or a reply is being written.
        """
        if self.turns(id_):
            raise UsageError("core.compact_busy")
        self._titling.stop()
        conversation, branch = await self.get(id_), await self.branch(id_)
        work = Compaction(self._services(NOTHING_SET), conversation, branch, keep)
        self._turns[work.id] = work
        work.start()
        return work

    async def _start(
        self, about: str, save: Callable[[Store], Assignment | Message], once: ChatSettings
    ) -> Turn:
        """Save, then start the turn; whoever stops waiting meanwhile stops neither."""
        self._titling.stop()  # whatever the user wants comes first

        async def begin() -> Turn:
            await self._storage.settle()
            assignment = await self._storage.about(about, save)
            assert isinstance(assignment, Assignment)
            turn = Turn(self._services(once), assignment)
            self._turns[turn.id] = turn
            turn.start()
            if self._settings.settings.chat.titles == "model" and self._source == "tui":
                self._titling.after(turn)
            return turn

        return await self._unstoppable(begin())

    async def _unstoppable(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return await asyncio.shield(task)

    def _services(self, once: ChatSettings) -> Services:
        def resolve(conversation: Conversation, model: str | None) -> Resolved:
            return self._settings.layers(conversation, once, model)

        return Services(
            storage=self._storage,
            models=self._models,
            sessions=self._sessions,
            resolve=resolve,
            notice=self._notice,
            used=self._used,
            asked=self._asked,
        )

    def turns(self, id_: str | None = None) -> Turns:
        """The running ones, compactions too, of one conversation or all."""
        self._turns = {turn.id: turn for turn in self._turns.values() if not turn.done}
        return [turn for turn in self._turns.values() if id_ in (None, turn.conversation)]

    async def cancel(self, turn_id: str) -> None:
        """Stop a turn and wait until its text is saved. A finished one is left as it is.

        A reply of which no word was written is removed, and what was shown before it is shown.
        """
        turn = self._turns.get(turn_id)
        if turn is not None and not turn.done:
            turn.cancel()
            await turn.ended()

    async def aclose(self) -> None:
        """Stop every turn, and wait until what they have is saved."""
        await self._titling.aclose()
        while self._starting:
            await asyncio.gather(*self._starting, return_exceptions=True)
        running = self.turns()
        for turn in running:
            turn.cancel()
        for turn in running:
            await turn.ended()

    # What is in force

    async def resolved(self, id_: str | None, once: ChatSettings = NOTHING_SET) -> Resolved:
        """Every setting in force and the layer that set it, down to the model's and llama.cpp's.

        Without an id: for a conversation that is still to be, with what `once` sets for it.
        """
        conversation = await self.get(id_) if id_ is not None else None
        return await self._in_force.resolved(conversation, once)

    async def count(self, id_: str, draft: Words = "") -> ContextUse | None:
        """Tokens of the conversation with a draft below it; None when no model is loaded."""
        conversation, branch = await self.get(id_), await self.branch(id_)
        return await self._in_force.count(conversation, branch, as_parts(draft))

    async def weigh(self, id_: str | None, parts: Sequence[Part]) -> Weight:
        """Tokens that parts would take in this conversation, or in a new one; see `Weight`."""
        conversation = await self.get(id_) if id_ is not None else None
        return await self._in_force.weigh(conversation, parts)


def _check_count(n: int) -> None:
    if not 1 <= n <= MAX_CHOICES:
        raise UsageError("core.how_many_answers", most=MAX_CHOICES)


def _sendable(words: Words) -> tuple[Part, ...]:
    """What may be sent: something, and nothing that no model here can see yet.

    Raises:
        UsageError: there is nothing, or an image.
    """
    parts = as_parts(words)
    if not parts:
        raise UsageError("core.nothing_to_send")
    if any(part.kind == "image" for part in parts):
        raise UsageError("core.no_images")
    return parts


def as_parts(words: Words) -> tuple[Part, ...]:
    """What a face gives as parts; empty if there is nothing in it."""
    if isinstance(words, str):
        return (Part(kind="text", text=words),) if words.strip() else ()
    return tuple(words)
