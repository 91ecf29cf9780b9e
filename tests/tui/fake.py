"""A Runtime in memory with core's signatures, whose turns go on only when a test says so.

For looks and for moments that cannot be hit from outside (a model half loaded, a prompt half read).
What needs the real path runs over the real Runtime with scripted workers.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Self

from msgspec.structs import replace

from llmchat.core.downloads import Progress
from llmchat.core.events import (
    AnyChatEvent,
    TextAdded,
    TurnFailed,
    TurnFinished,
    TurnStarted,
)
from llmchat.engine.protocol import WorkerStatus
from llmchat.errors import Interrupted, LlmchatError, NotFound
from llmchat.store.search import Hit
from llmchat.values import (
    ChatSettings,
    Conversation,
    Generation,
    Message,
    ModelFile,
    Part,
    Timings,
    Usage,
)

UNSET = ChatSettings()
NOW = 1_700_000_000.0
STARTER = ModelFile(
    name="smollm2:135m", path="/models/smollm2.gguf", identity="0" * 64, size=98_000_000
)
GENERATION = Generation(
    model="smollm2:135m",
    usage=Usage(prompt_tokens=40, from_memory=30, read=10, completion_tokens=36),
    timings=Timings(first_token=0.21, generation=0.85, prompt=0.2),
    finish="stop",
)


class FakeTurn:
    def __init__(self, chats: "FakeChats", question: Message | None, reply: Message) -> None:
        self.id = f"turn-{reply.id}"
        self.conversation = reply.conversation
        self.question = question
        self.replies: tuple[Message, ...] = (reply,)
        self.done = False
        self.crash: BaseException | None = None
        self._chats = chats
        self._events: list[AnyChatEvent] = []
        self._more = asyncio.Condition()
        self.now(TurnStarted(**self.tag, question=question, replies=self.replies))

    @property
    def tag(self) -> dict[str, str]:
        return {"turn": self.id, "conversation": self.conversation}

    @property
    def reply(self) -> Message:
        return self.replies[0]

    def now(self, event: AnyChatEvent) -> None:
        self._events.append(event)

    async def publish(self, event: AnyChatEvent) -> None:
        async with self._more:
            self.now(event)
            self._more.notify_all()

    async def write(self, text: str) -> None:
        self._put(replace(self.reply, parts=(Part(kind="text", text=self.reply.text + text),)))
        await self.publish(TextAdded(**self.tag, message=self.reply.id, text=text))

    def _put(self, reply: Message) -> None:
        self.replies = (reply,)
        self._chats.put(reply)

    async def finish(self, generation: Generation = GENERATION) -> None:
        self._put(replace(self.reply, status="complete", generation=generation))
        self.done = True
        await self.publish(TurnFinished(**self.tag, replies=self.replies))

    async def withdraw(self, leaf: str | None) -> None:
        """Stopped before the first word: the reply leaves nothing."""
        self._chats.remove(self.reply, leaf)
        self.replies, self.done = (), True
        await self.publish(TurnFinished(**self.tag, replies=()))

    async def fail(self, error: LlmchatError) -> None:
        self._put(replace(self.reply, status="failed", error=error.sentence))
        self.done = True
        await self.publish(TurnFailed(**self.tag, error=error, replies=self.replies))

    def _has(self, place: int) -> bool:
        return len(self._events) > place

    async def events(self) -> AsyncIterator[AnyChatEvent]:
        place = 0
        while True:
            async with self._more:
                await self._more.wait_for(partial(self._has, place))
                event = self._events[place]
            place += 1
            yield event
            if isinstance(event, TurnFinished | TurnFailed):
                return


class FakeChats:
    unsaved: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.conversations: dict[str, Conversation] = {}
        self.messages: dict[str, Message] = {}
        self.running: list[FakeTurn] = []
        self.use: Any = None
        self._gone: dict[str, Conversation] = {}

    def put(self, message: Message) -> None:
        self.messages[message.id] = message

    def remove(self, message: Message, leaf: str | None) -> None:
        del self.messages[message.id]
        conversation = self.conversations[message.conversation]
        self.conversations[conversation.id] = replace(conversation, active_leaf=leaf)

    def _id(self, prefix: str) -> str:
        return f"{prefix}{len(self.messages) + len(self.conversations):04d}"

    def talk(self, title: str, *pairs: tuple[str, str], updated: float = NOW) -> Conversation:
        """A conversation that was had before."""
        conversation = Conversation(id=self._id("c"), title=title, created=updated, updated=updated)
        self.conversations[conversation.id] = conversation
        parent = None
        for question, answer in pairs:
            asked = self.message(conversation.id, "user", question, parent)
            reply = self.message(conversation.id, "assistant", answer, asked.id, GENERATION)
            parent = reply.id
        return self.conversations[conversation.id]

    def message(
        self,
        conversation: str,
        role: Any,
        text: str,
        parent: str | None,
        generation: Generation | None = None,
        status: Any = "complete",
    ) -> Message:
        identity = self._id("m")
        siblings = [m.id for m in self.messages.values() if m.parent == parent]
        siblings = [s for s in siblings if self.messages[s].conversation == conversation] + [
            identity
        ]
        message = Message(
            id=identity,
            conversation=conversation,
            parent=parent,
            role=role,
            parts=(Part(kind="text", text=text),) if text else (),
            seq=len(self.messages),
            generation=generation,
            status=status,
        )
        self.messages[identity] = message
        for sibling in siblings:
            self.messages[sibling] = replace(self.messages[sibling], siblings=tuple(siblings))
        self.conversations[conversation] = replace(
            self.conversations[conversation], active_leaf=identity
        )
        return self.messages[identity]

    async def create(self, *, title="", settings=UNSET, source=None) -> Conversation:
        conversation = self.talk(title)
        self.conversations[conversation.id] = replace(conversation, settings=settings)
        return self.conversations[conversation.id]

    async def list(self, *, limit=200, offset=0, include_cli=False, deleted=False):
        found = sorted(self.conversations.values(), key=lambda c: -c.updated)
        return sorted(found, key=lambda c: not c.pinned)

    async def get(self, id: str) -> Conversation:
        return self.conversations[id]

    async def find(self, text: str) -> Conversation:
        for conversation in self.conversations.values():
            if text in {conversation.id, conversation.title}:
                return conversation
        raise NotFound("tui.failed")

    async def last(self, *, include_cli=True) -> Conversation | None:
        found = await self.list()
        return found[0] if found else None

    async def branch(self, id: str, leaf: str | None = None) -> Sequence[Message]:
        place = leaf or self.conversations[id].active_leaf
        branch: list[Message] = []
        while place is not None:
            branch.insert(0, self.messages[place])
            place = self.messages[place].parent
        return branch

    async def search(self, words: str, *, limit: int = 50) -> Sequence[Hit]:
        """Newest first; a word is marked where it stands first."""
        found = []
        for message in reversed(self.messages.values()):
            place = message.text.lower().find(words.lower()) if words.strip() else -1
            if place >= 0:
                end = place + len(words)
                text = message.text
                found.append(
                    Hit(
                        conversation=message.conversation,
                        message=message.id,
                        title=self.conversations[message.conversation].title,
                        snippet=f"{text[:place]}\x01{text[place:end]}\x02{text[end:]}",
                        role=message.role,
                        created=self.conversations[message.conversation].updated,
                    )
                )
        return found[:limit]

    async def rename(self, id: str, title: str) -> None:
        self.conversations[id] = replace(self.conversations[id], title=title)

    async def pin(self, id: str, pinned: bool) -> None:
        self.conversations[id] = replace(self.conversations[id], pinned=pinned)

    async def delete(self, id: str) -> None:
        self._gone[id] = self.conversations.pop(id)

    async def undelete(self, id: str) -> None:
        self.conversations[id] = self._gone.pop(id)

    async def configure(self, id: str, settings: ChatSettings) -> Conversation:
        self.conversations[id] = replace(self.conversations[id], settings=settings)
        return self.conversations[id]

    async def send(self, id: str, parts: Any, *, parent=None, once=UNSET) -> FakeTurn:
        leaf = self.conversations[id].active_leaf
        question = self.message(id, "user", str(parts), leaf)
        return self._turn(question, question)

    def _turn(self, question: Message | None, parent: Message) -> FakeTurn:
        reply = self.message(parent.conversation, "assistant", "", parent.id, status="streaming")
        turn = FakeTurn(self, question, reply)
        self.running.append(turn)
        return turn

    async def regenerate(self, message_id: str, n: int = 1) -> FakeTurn:
        message = self.messages[message_id]
        question = message if message.role == "user" else self.messages[message.parent or ""]
        return self._turn(None, question)

    async def continue_(self, message_id: str) -> FakeTurn:
        return await self.regenerate(message_id)

    async def edit(self, message_id: str, parts: Any, *, rerun: bool = True) -> Any:
        old = self.messages[message_id]
        edited = self.message(old.conversation, old.role, str(parts), old.parent)
        return self._turn(edited, edited) if rerun else edited

    async def fork(self, message_id: str) -> Conversation:
        old = self.messages[message_id]
        texts = [m.text for m in await self.branch(old.conversation, message_id)]
        return self.talk("Fork", *zip(texts[::2], texts[1::2], strict=False))

    async def select(self, message_id: str) -> Sequence[Message]:
        message = self.messages[message_id]
        self.conversations[message.conversation] = replace(
            self.conversations[message.conversation], active_leaf=message_id
        )
        return await self.branch(message.conversation)

    async def delete_message(self, message_id: str) -> None:
        message = self.messages[message_id]
        self.conversations[message.conversation] = replace(
            self.conversations[message.conversation], active_leaf=message.parent
        )

    async def undelete_message(self, message_id: str) -> None:
        await self.select(message_id)

    def turns(self, id: str | None = None) -> Sequence[FakeTurn]:
        return [t for t in self.running if not t.done and id in {None, t.conversation}]

    async def cancel(self, turn_id: str) -> None:
        turn = next(t for t in self.running if t.id == turn_id)
        if not turn.reply.parts:
            await turn.withdraw(turn.reply.parent)
            return
        await turn.finish(replace(GENERATION, finish="cancelled"))

    async def resolved(self, id: str | None, once=UNSET) -> Any:
        settings = self.conversations[id].settings if id is not None else once
        return Resolved(replace(settings, model=settings.model or STARTER.name))

    async def count(self, id: str, draft: str = "") -> Any:
        return self.use

    async def changed(self) -> bool:
        return False


class Resolved:
    def __init__(self, values: ChatSettings, sources: dict[str, str] | None = None) -> None:
        self.values = values
        self.sources = sources or {"model": "conversation"}


class FakeModels:
    def __init__(self, *models: ModelFile) -> None:
        self.here = list(models)
        self.workers: list[WorkerStatus] = []

    def list(self) -> Sequence[ModelFile]:
        return self.here

    def resolve(self, ref: str) -> ModelFile:
        for model in self.here:
            if model.name == ref:
                return model
        raise NotFound("tui.failed")

    def starter(self) -> ModelFile:
        return STARTER

    def default(self) -> ModelFile | None:
        return self.here[0] if self.here else None

    async def live(self) -> Sequence[WorkerStatus]:
        return self.workers


class FakeDownloads:
    """Half of the starter comes at once; the rest when `go_on` is set."""

    def __init__(self, models: FakeModels) -> None:
        self.go_on = threading.Event()
        self.stopped = False
        self._models = models

    def plan(self, ref: str, *, stop: threading.Event) -> str:
        return ref

    def pull(self, plan: str, on_progress: Any, stop: threading.Event) -> ModelFile:
        on_progress(
            Progress(stage="downloading", done=49_000_000, total=98_000_000, rate=5e6, file="f")
        )
        while not self.go_on.wait(0.01):
            if stop.is_set():
                self.stopped = True
                raise Interrupted
        self._models.here.append(STARTER)
        return STARTER


class FakeSettings:
    theme: str | None = None

    def set(self, key: str, text: str | None) -> None:
        setattr(self, key.rpartition(".")[2], text)

    def layers(self, conversation: Any = None, once: ChatSettings = UNSET) -> Resolved:
        return Resolved(replace(once, model=once.model or STARTER.name))


class FakeFits:
    """Nothing is known of any model here; a repository has what a test gives it."""

    def __init__(self) -> None:
        self.offers: dict[str, list[Any]] = {}

    def each(self, models: Sequence[ModelFile]) -> dict[str, str]:
        return {}

    def variants(self, repo: str) -> list[Any]:
        return self.offers[repo]


class FakeRuntime:
    def __init__(self, *models: ModelFile) -> None:
        self.chats = FakeChats()
        self.models = FakeModels(*models)
        self.downloads: Any = None
        self.discovery: Any = None
        self.fits: Any = FakeFits()
        self.settings = FakeSettings()
        self.notices: list[str] = []
        self.closed = False

    def news(self) -> list[str]:
        fresh = self.notices[:]
        self.notices.clear()
        return fresh

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True
