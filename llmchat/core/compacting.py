"""Summing up the older part of a conversation, so that the rest has room.

Owns which turns are summed up, asking the model for it, and the new branch: a root message of the
role `system` that says in `summary_of` which messages it stands for, with copies of the newest
turns below it. The originals stay where they are, one version to the left. Until the summary is
whole nothing is written: a failure, or Esc, leaves everything as it was.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from llmchat.core import prompting
from llmchat.core.asking import Asking, Services
from llmchat.core.context import turns
from llmchat.core.events import TextAdded, TurnFailed, TurnFinished, TurnStarted
from llmchat.core.settings import Resolved
from llmchat.engine import protocol
from llmchat.engine.protocol import ChatMessage
from llmchat.engine.session import Session
from llmchat.errors import GenerationFailed, Interrupted, LlmchatError, UsageError
from llmchat.store.replies import Ending
from llmchat.store.store import Store
from llmchat.values import Conversation, Generation, Message, ModelFile, Part

KEPT_TURNS = 2
"""Newest turns that stay as they are, where there are more."""

MOST_TOKENS = 1024
"""Of a summary; a quarter of the context where that is less."""

ASK = (
    "Sum up our conversation so far, for yourself, so that it can go on without the messages above."
    " Keep facts, names, numbers, decisions, open questions and what I asked you to remember."
    " Write the summary only."
)
"""What the model is asked: the same in every language, since it decides what a model does."""


def split(branch: Sequence[Message], keep: int) -> tuple[list[Message], list[Message]]:
    """What is summed up, and what stays: the newest `keep` turns, or fewer where there are few.

    Raises:
        UsageError: there is nothing before the newest turn.
    """
    found = turns([message.role for message in branch])
    kept = min(keep, len(found) - 1)
    if kept < 1:
        raise UsageError("core.nothing_to_compact")
    place = found[-kept].start
    return list(branch[:place]), list(branch[place:])


class Compaction(Asking):
    """A running or finished compaction. `replies`: the summary, once it is saved."""

    def __init__(
        self, services: Services, conversation: Conversation, branch: Sequence[Message], keep: int
    ) -> None:
        """Raises UsageError: see `split`."""
        super().__init__(services, conversation)
        self.older, self.kept = split(branch, keep)
        self._text: list[str] = []
        self._made = Generation(model="")

    def start(self) -> None:
        """Begin, as a task of the running loop."""
        self.publish(TurnStarted, question=None, replies=())
        super().start()

    async def _run(self) -> None:
        try:
            model = await asyncio.to_thread(self.find_model)
            self._services.asked(model)
            await self._sum_up(model)
            self._is_answered = True
            await self._save()
        except asyncio.CancelledError:
            if not self.stopped:
                raise
            self.error = Interrupted()
        except LlmchatError as error:
            self.error = error
        finally:
            self.done = True
            if self.error is not None:
                self.publish(TurnFailed, error=self.error, replies=())
            else:
                self.publish(TurnFinished, replies=self.replies)
            self._published.close()

    async def _sum_up(self, model: ModelFile) -> None:
        settings = self._services.resolve(self.of, model.name)
        lines = prompting.lines(self.older, settings.values.system, {})
        async with self.open_session(model, settings) as session:
            self._services.used(model.name)
            self._made = Generation(
                model=model.name,
                identity=model.identity,
                build=session.facts.build,
                template_digest=session.facts.template.digest,
            )
            rest = [line.message for line in lines]
            while rest:
                asked, rest = await self._portion(session, rest)
                self._text = []
                await self._ask(session, asked, settings)
                if rest:
                    so_far = prompting.with_summary(settings.values.system, self._summary())
                    rest.insert(0, ChatMessage(role="system", content=so_far))

    async def _portion(
        self, session: Session, messages: list[ChatMessage]
    ) -> tuple[protocol.Messages, list[ChatMessage]]:
        """As many messages as fit with the question below them, and the rest.

        A message that does not even fit alone is cut: better its beginning than no summary.
        """
        budget = session.facts.n_ctx - self._room(session)
        taken = len(messages)
        while True:
            prompt = _asking(messages[:taken])
            total = (await session.count(prompt)).tokens
            if total <= budget:
                return prompt, messages[taken:]
            least = 2 if messages[0].role == "system" and len(messages) > 1 else 1
            if taken > least:
                taken = max(least, min(taken - 1, taken * budget // total))
                continue
            longest = messages[taken - 1]
            if len(longest.content) < 64:
                raise GenerationFailed("core.message_too_long", tokens=total, budget=budget)
            shorter = longest.content[: len(longest.content) * budget * 9 // (total * 10)]
            messages[taken - 1] = msgspec.structs.replace(
                longest, content=shorter + " […]", tokens=(), vocab=""
            )

    def _room(self, session: Session) -> int:
        return min(MOST_TOKENS, max(1, session.facts.n_ctx // 4))

    async def _ask(self, session: Session, prompt: protocol.Messages, settings: Resolved) -> None:
        request = protocol.Generate(
            prompt=prompt,
            sampling=msgspec.structs.replace(settings.values.sampling, temperature=0.0),
            max_tokens=self._room(session),
            tag=self.conversation,
        )
        async with aclosing(session.generate(request)) as events:
            async for event in events:
                if isinstance(event, protocol.Queued | protocol.PromptProgress):
                    self.publish_progress(event)
                elif isinstance(event, protocol.Delta) and event.kind == "text":
                    self._text.append(event.text)
                    self.publish(TextAdded, message=self.id, text=event.text)
                elif isinstance(event, protocol.Finished):
                    self._made = msgspec.structs.replace(
                        self._made,
                        seed=event.seed,
                        usage=event.usage,
                        timings=event.timings,
                        finish=event.reason,
                    )

    def _summary(self) -> str:
        return "".join(self._text).strip()

    async def _save(self) -> None:
        """The new branch, all or nothing."""
        if not self._summary():
            raise GenerationFailed("core.empty_summary", recoverable=True)
        work = partial(_write, self.of.id, self.older, self.kept, self._summary(), self._made)
        self.replies = (await self._services.storage.about(self.conversation, work),)


def _asking(messages: Sequence[ChatMessage]) -> protocol.Messages:
    """The conversation with the question below it; beside an unanswered one it joins that."""
    asked = list(messages)
    question = ChatMessage(role="user", content=ASK)
    if asked and asked[-1].role == "user":
        joined = f"{asked.pop().content}\n\n{ASK}"
        question = ChatMessage(role="user", content=joined)
    return protocol.Messages(
        messages=(*asked, question), template_kwargs={"enable_thinking": False}
    )


def _write(
    conversation: str,
    older: Sequence[Message],
    kept: Sequence[Message],
    text: str,
    made: Generation,
    store: Store,
) -> Message:
    part = Part(kind="text", text=text, meta={"summary_of": " ".join(one.id for one in older)})
    with store.db.transaction():
        now = store.tree.branch(conversation, store.conversations.get(conversation).active_leaf)
        if [one.id for one in now[: len(older)]] == [one.id for one in older]:
            kept = now[len(older) :]  # with what was said meanwhile
        if any(one.status == "streaming" for one in kept):
            raise UsageError("core.compact_busy")
        summary = store.tree.add(conversation, None, "system", (part,))
        ending = Ending(message=summary, parts=(part,), status="complete", generation=made)
        store.writer.finish([ending])
        leaf = store.tree.copy_below(kept, conversation, summary)
        store.tree.set_active(conversation, leaf)
        store.conversations.touch(conversation)
    return store.tree.get(summary)


def rewritten(store: Store, old: Message, words: str) -> Message:
    """A version of a summary with other words, and copies of what follows it. All or nothing.

    Raises:
        UsageError: there are no words, or a reply is being written below it.
    """
    if not words.strip():
        raise UsageError("core.nothing_to_send")
    with store.db.transaction():
        leaf = store.conversations.get(old.conversation).active_leaf
        shown = store.tree.branch(old.conversation, leaf)
        if old.id not in {one.id for one in shown}:
            shown = store.tree.branch(old.conversation, store.tree.newest_leaf(old.id))
        kept = shown[[one.id for one in shown].index(old.id) + 1 :]
        if any(one.status == "streaming" for one in kept):
            raise UsageError("core.compact_busy")
        meta = next((part.meta for part in old.parts if part.kind == "text"), {})
        part = Part(kind="text", text=words, meta=meta)
        fresh = store.tree.add(old.conversation, old.parent, old.role, (part,))
        leaf = store.tree.copy_below(kept, old.conversation, fresh)
        store.tree.set_active(old.conversation, leaf)
        store.conversations.touch(old.conversation)
    return store.tree.get(fresh)
