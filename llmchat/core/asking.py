"""Work that asks a model, as a task of the Runtime: followed by any number, stopped by `cancel`.

Owns the life of such a task and what it tells while a model loads and reads. Refuses to know what
is asked: `turn.py` answers a question, `compacting.py` sums up what was said.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from llmchat.core.adapting import wants_of
from llmchat.core.events import AnyChatEvent, ModelLoading, PromptRead, Queued
from llmchat.core.following import Published
from llmchat.core.sessions import ModelSource, Sessions
from llmchat.core.settings import Resolved
from llmchat.core.storing import StoreThread
from llmchat.engine import protocol
from llmchat.engine.session import OnProgress, Session
from llmchat.errors import LlmchatError, NotFound
from llmchat.store.ids import new_id
from llmchat.values import Conversation, Message, ModelFile


@dataclass(frozen=True, slots=True)
class Services:
    """What such a task works with; the Runtime owns them."""

    storage: StoreThread
    models: ModelSource
    sessions: Sessions
    resolve: Callable[[Conversation, str | None], Resolved]
    """The settings in force, given the resolved model's name once it is known."""
    notice: Callable[[str], None]
    """Tells the user of something that is not this task's error."""
    used: Callable[[str], None]
    """Is told the name of the model once it is open."""
    asked: Callable[[ModelFile], None]
    """Is told the model before it is opened: somebody asks for it."""


class Asking(ABC):
    """What has a conversation, events, and an end. `done` once its result is saved."""

    def __init__(self, services: Services, conversation: Conversation) -> None:
        self.id = new_id()
        self.conversation = conversation.id
        self.replies: tuple[Message, ...] = ()
        self.done = False
        self.error: LlmchatError | None = None
        self.stopped = False
        """Whether somebody stopped it."""
        self.of = conversation
        self._services = services
        self._published = Published()
        self._reading: tuple[float, int] | None = None
        self._is_answered = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, as a task of the running loop."""
        self._task = asyncio.create_task(self._run(), name=f"{type(self).__name__} {self.id}")
        self._task.add_done_callback(self._let_go)

    def _let_go(self, _task: asyncio.Task[None]) -> None:
        """Whatever ended it, an error of ours too: nobody waits for more. `wait` raises it."""
        self.done = True
        self._published.close()

    @abstractmethod
    async def _run(self) -> None:
        """Ask, and save what comes; never raises but when it is cancelled from outside."""

    def events(self) -> AsyncIterator[AnyChatEvent]:
        """What has happened, neighbouring text merged, then what happens. Leaving stops nothing."""
        return self._published.follow()

    async def wait(self) -> tuple[Message, ...]:
        """The messages that came of it.

        Raises:
            LlmchatError: what it failed with.
        """
        assert self._task is not None
        await asyncio.shield(self._task)
        if self.error is not None:
            raise self.error
        return self.replies

    @property
    def crash(self) -> BaseException | None:
        """An error of ours that ended it, which no event tells of."""
        if self._task is None or not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception()

    async def ended(self) -> None:
        """Returns once everything is saved, however it ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def cancel(self) -> None:
        """Stop it. Once is enough, more do nothing; what is answered already is left as it is."""
        if self._task is not None and not self.stopped and not self._is_answered:
            self.stopped = True
            self._task.cancel()

    def find_model(self) -> ModelFile:
        """The model of the conversation, by name or by default. Reads the disk.

        Raises:
            NotFound: there is none.
        """
        wanted = self._services.resolve(self.of, None).values.model
        model = self._services.models.resolve(wanted) if wanted else self._services.models.default()
        if model is None:
            raise NotFound("core.no_model")
        return model

    def open_session(
        self, model: ModelFile, settings: Resolved
    ) -> AbstractAsyncContextManager[Session]:
        """The model, loaded if need be; what is seen of that is published."""
        values = settings.values
        loading = self._report_loading(model)
        return self._services.sessions.use(model, wants_of(values), values.keep_alive, loading)

    def _report_loading(self, model: ModelFile) -> OnProgress:
        def report(event: protocol.Plan | protocol.Loading) -> None:
            if isinstance(event, protocol.Loading):
                fraction, stage = event.fraction, str(event.stage)
            else:
                fraction, stage = 0.0, "plan"
            self.publish(ModelLoading, model=model.name, fraction=fraction, stage=stage)

        return report

    def publish_progress(self, event: protocol.Queued | protocol.PromptProgress) -> None:
        """Waiting and reading; with the time left by the pace since the first report."""
        if isinstance(event, protocol.Queued):
            self.publish(Queued, position=event.position)
            return
        now = time.monotonic()
        if self._reading is None:
            self._reading = (now, event.done)
        began, first = self._reading
        read = event.done - first
        left = (event.total - event.done) * (now - began) / read if read > 0 else None
        self.publish(
            PromptRead,
            done=event.done,
            total=event.total,
            from_memory=event.from_memory,
            from_disk=event.from_disk,
            seconds_left=left,
        )

    def publish(self, kind: type[AnyChatEvent], **values: object) -> None:
        """Tell the followers a fact."""
        self._published.add(kind(turn=self.id, conversation=self.conversation, **values))  # type: ignore[arg-type]
