"""Titles that the model gives, when nothing else is to be done.

After the first reply of a conversation, once nobody asks this program anything and the worker is
idle, the model that is loaded anyway is asked for a title: a few tokens below words that it still
has in memory, behind everybody else's. Whatever the user does comes first: a message stops it, and
a title that somebody gave is never replaced.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

from llmchat.core import prompting
from llmchat.core.inforce import InForce
from llmchat.core.settings import SettingsService
from llmchat.core.storing import StoreThread
from llmchat.core.titles import title_from
from llmchat.core.turn import Turn
from llmchat.engine import protocol
from llmchat.engine.protocol import ChatMessage
from llmchat.engine.session import Session
from llmchat.errors import LlmchatError
from llmchat.store.store import Store
from llmchat.values import Message, Sampling

PAUSE = 1.5
"""Seconds of quiet before the model is asked; a busy worker is looked at again after as many."""

PATIENCE = 20
"""How often a busy worker is looked at before the first words stay the title."""

YOUNG = 8
"""Messages after which a conversation keeps the title it has."""

MOST_TOKENS = 24

ASK = "Give this conversation a title of two to six words. Answer with the title only."
"""The same in every language: the model answers in that of the conversation."""

_LABEL = re.compile(r"^(?:title|titel|título)\s*:\s*", re.IGNORECASE)


def tidy(text: str) -> str:
    """A title from what a model wrote: one line without quotes, marks and a label."""
    line = next((line for line in text.splitlines() if line.strip(" *#\"'`“”_.")), "")
    line = _LABEL.sub("", line.strip(" *#\"'`“”_"))
    return title_from(line.strip(" *#\"'`“”_").removesuffix("."))


class Titling:
    """Gives titles in the background. `busy`: whether this program asks a model right now."""

    def __init__(
        self,
        storage: StoreThread,
        in_force: InForce,
        settings: SettingsService,
        busy: Callable[[], bool],
    ) -> None:
        self._storage = storage
        self._in_force = in_force
        self._settings = settings
        self._busy = busy
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._news = False
        self._done: set[str] = set()
        """Conversations whose title was given, or could not be."""

    def after(self, turn: Turn) -> None:
        """See to a title once this turn is over, if the conversation is young and has none yet."""
        if turn.conversation in self._done:
            return
        self.stop(turn.conversation)
        task = asyncio.create_task(self._see_to(turn), name=f"title {turn.conversation}")
        self._tasks[turn.conversation] = task
        task.add_done_callback(lambda done: self._forget(turn.conversation, done))

    def _forget(self, conversation: str, done: asyncio.Task[None]) -> None:
        if self._tasks.get(conversation) is done:
            del self._tasks[conversation]

    def stop(self, conversation: str | None = None) -> None:
        """Give up on the title of a conversation, or on all that are being written."""
        for id_, task in list(self._tasks.items()):
            if conversation in (None, id_):
                task.cancel()

    def take_news(self) -> bool:
        """Whether a title was given since this was last asked."""
        news, self._news = self._news, False
        return news

    async def aclose(self) -> None:
        """Stop everything."""
        tasks = list(self._tasks.values())
        self.stop()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _see_to(self, turn: Turn) -> None:
        await turn.ended()
        if turn.error is not None or turn.stopped:
            return
        session = await self._idle_session(turn)
        if session is None:
            return
        try:
            first = await self._storage.about(turn.conversation, partial(_first, turn.conversation))
            if first is not None:
                title = tidy(await self._ask(session, *first))
                work = partial(_retitle, turn.conversation, title_from(first[0].text), title)
                self._news |= bool(title) and await self._storage.about(turn.conversation, work)
            self._done.add(turn.conversation)
        except LlmchatError:  # the worker left, or the disk is full: the first words will do
            return

    async def _idle_session(self, turn: Turn) -> Session | None:
        """The model's session once nobody uses it; None when that takes too long, or it is gone."""
        for _ in range(PATIENCE):
            await asyncio.sleep(PAUSE)
            session = await self._in_force.session(turn.of)
            if session is None:
                return None
            try:
                status = await session.status()
            except LlmchatError:
                return None
            if status.state == "idle" and not self._busy():
                return session
        return None

    async def _ask(self, session: Session, question: Message, reply: Message) -> str:
        values = self._settings.layers().values
        lines = prompting.lines([question, reply], values.system, {})
        asked = (*(line.message for line in lines), ChatMessage(role="user", content=ASK))
        request = protocol.Generate(
            prompt=protocol.Messages(messages=asked, template_kwargs={"enable_thinking": False}),
            sampling=Sampling(temperature=0.0),
            max_tokens=MOST_TOKENS,
            priority=-1,
        )
        words: list[str] = []
        async with aclosing(session.generate(request)) as events:
            async for event in events:
                if isinstance(event, protocol.Delta) and event.kind == "text":
                    words.append(event.text)
        return "".join(words)


def _first(conversation: str, store: Store) -> tuple[Message, Message] | None:
    """The first question and its reply, where the title is still made of the first words."""
    found = store.conversations.get(conversation)
    branch = store.tree.branch(conversation, found.active_leaf)
    roles = [message.role for message in branch[:2]]
    if roles != ["user", "assistant"] or len(branch) > YOUNG or not branch[1].text:
        return None
    return (branch[0], branch[1]) if found.title == title_from(branch[0].text) else None


def _retitle(conversation: str, before: str, title: str, store: Store) -> bool:
    return store.conversations.retitle(conversation, before, title)
