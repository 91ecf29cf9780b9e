"""One turn: the user's words are saved; the model is asked; the replies grow, and are kept.

A turn is a task of the Runtime. Faces follow its events and may leave; only `cancel` or closing the
Runtime stops it. However it ends, its rows are brought to an end: complete, failed or interrupted,
with the text that there is. A reply that is stopped before its first word leaves nothing.
"""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial

import msgspec

from llmchat.core import prompting
from llmchat.core.adapting import of_reply
from llmchat.core.asking import Asking, Services
from llmchat.core.context import room_for_reply
from llmchat.core.events import (
    ContextDropped,
    ContextFull,
    TextAdded,
    ThinkingAdded,
    ToolCalled,
    TurnFailed,
    TurnFinished,
    TurnStarted,
)
from llmchat.core.growing import GrowingReply
from llmchat.core.settings import Resolved
from llmchat.engine import protocol
from llmchat.engine.session import GenerateEvent, Session
from llmchat.errors import GenerationFailed, LlmchatError, NotFound, StoreError, WorkerDied
from llmchat.store.replies import Ending
from llmchat.store.store import Store
from llmchat.values import (
    ContextPolicy,
    Continued,
    Conversation,
    Generation,
    LeftOut,
    Message,
    MessageStatus,
    ModelFile,
    Origin,
    PartKind,
)

CHECKPOINT_SECONDS = 1.0

LAST_WORDS_SECONDS = 0.5
"""How long a stopped reply is waited for: the worker's counts and tokens come within one token."""


@dataclass(slots=True)
class Assignment:
    """What a turn is to do, after its rows are saved."""

    conversation: Conversation
    question: Message | None
    replies: tuple[Message, ...]
    branch: list[Message] = field(default_factory=list)
    """From the root to what is answered; with `continuing`, to the reply that goes on."""
    kept: prompting.KeptTokens = field(default_factory=dict)
    continuing: bool = False
    first_tokens: tuple[str, tuple[int, ...]] = ("", ())
    """With `continuing`: the vocabulary's hash and the token ids of what the reply begins with."""
    begins_with_edit: bool = False
    """With `continuing`: what it begins with is the user's, and stands nowhere else."""
    back_to: str | None = None
    """The leaf that was shown before: shown again when the replies are stopped before a word."""


class Turn(Asking):
    """A running or finished turn. `done` once its replies are saved.

    Stopped before the first word of a reply it has none: `replies` are those that are kept.
    """

    def __init__(self, services: Services, assignment: Assignment) -> None:
        super().__init__(services, assignment.conversation)
        self.question = assignment.question
        self.replies = assignment.replies
        self._assignment = assignment
        self._growing = [GrowingReply(message) for message in assignment.replies]
        self._decision: asyncio.Future[ContextPolicy] | None = None
        self._is_over = False
        self._told_everything = asyncio.Event()

    def start(self) -> None:
        """Begin, as a task of the running loop."""
        self.publish(TurnStarted, question=self.question, replies=self.replies)
        super().start()

    @property
    def undecided(self) -> bool:
        """Whether it waits for `decide`: see `ContextFull`."""
        return self._decision is not None and not self._decision.done()

    def decide(self, policy: ContextPolicy) -> None:
        """Answer `ContextFull`: the turn goes on with this policy. Too late, it does nothing."""
        if self._decision is not None and not self._decision.done():
            self._decision.set_result(policy)

    async def _run(self) -> None:
        saving = asyncio.create_task(self._checkpoints())
        try:
            await self._answer()
            self._is_answered = True
        except asyncio.CancelledError:
            if not self.stopped:
                raise
            await self._hear_last_words()
        except LlmchatError as error:
            self.error = error
        finally:
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
            await self._end()

    async def _hear_last_words(self) -> None:
        """Wait shortly for what a stopped worker still says of a reply that it had begun."""
        if not any(reply.has_grown for reply in self._growing):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self._told_everything.wait()

    def _take_late(self, event: GenerateEvent) -> None:
        if not self._is_over:
            self._take(event)

    async def _answer(self) -> None:
        """Ask the model; once more if its worker left in the moment of asking."""
        model = await asyncio.to_thread(self.find_model)
        self._services.asked(model)
        try:
            await self._ask(model)
        except WorkerDied as error:
            if error.key != "engine.left" or any(reply.has_grown for reply in self._growing):
                raise
            await self._ask(model)

    async def _ask(self, model: ModelFile) -> None:
        settings = self._services.resolve(self._assignment.conversation, model.name)
        self._record(Generation(model=model.name, identity=model.identity))
        async with self.open_session(model, settings) as session:
            self._services.used(model.name)
            request, left_out = await self._request(session, settings)
            made = _generation(model, settings, session.facts, left_out)
            self._record(msgspec.structs.replace(made, continued=self._continued()))
            if left_out is not None:
                self.publish(
                    ContextDropped,
                    messages=left_out.messages,
                    tokens=left_out.tokens,
                    policy=left_out.policy,
                )
            async with aclosing(session.generate(request, self._take_late)) as events:
                async for event in events:
                    self._take(event)

    def _continued(self) -> Continued | None:
        """What the reply began with, when it goes on from another."""
        if not self._assignment.continuing:
            return None
        parts = self._assignment.replies[0].parts
        characters = sum(len(part.text) for part in parts if part.kind in ("text", "thinking"))
        return Continued(characters=characters, tokens=len(self._assignment.first_tokens[1]))

    async def _request(
        self, session: Session, settings: Resolved
    ) -> tuple[protocol.Generate, LeftOut | None]:
        """What the worker is asked, cut to the context."""
        values = settings.values
        work = self._assignment
        lines = prompting.lines(work.branch, values.system, work.kept)
        prompt = protocol.Messages(
            messages=tuple(line.message for line in lines),
            continue_final=work.continuing,
            tools=values.tools or (),
            template_kwargs=prompting.template_kwargs(values),
        )
        n_ctx = session.facts.n_ctx
        budget = n_ctx - room_for_reply(n_ctx, values.max_tokens)
        policy = values.context_policy or "drop-middle"
        ids = [line.ids for line in lines]
        try:
            prompt, left_out = await prompting.fit(session, prompt, ids, budget, policy)
        except GenerationFailed as error:
            if error.key != "core.context_ask":
                raise
            policy = await self._policy_by_hand(error)
            prompt, left_out = await prompting.fit(session, prompt, ids, budget, policy)
        request = protocol.Generate(
            prompt=prompt,
            sampling=values.sampling,
            n=len(self._growing),
            max_tokens=values.max_tokens,
            **of_reply(values),
            constraint=values.constraint,
            tag=self.conversation,
        )
        return request, left_out

    async def _policy_by_hand(self, full: GenerationFailed) -> ContextPolicy:
        """What somebody chooses now that not everything fits; asked once in a turn."""
        if self._decision is None:
            self._decision = asyncio.get_running_loop().create_future()
            self.publish(ContextFull, **full.values)
        return await self._decision

    def _take(self, event: GenerateEvent) -> None:
        match event:
            case protocol.Queued() | protocol.PromptProgress():
                self.publish_progress(event)
            case protocol.Delta(choice=choice, kind=kind, text=text):
                self._add(self._growing[choice], kind, text)
            case protocol.Finished():
                self._finish(self._growing[event.choice], event)

    def _add(self, reply: GrowingReply, kind: str, text: str) -> None:
        if not text or kind == "tool":  # a call is taken whole, from Finished
            return
        if kind == "thinking":
            reply.add("thinking", text)
            self.publish(ThinkingAdded, message=reply.message.id, text=text)
        else:
            reply.add("text", text)
            self.publish(TextAdded, message=reply.message.id, text=text)

    def _finish(self, reply: GrowingReply, event: protocol.Finished) -> None:
        for call in event.tool_calls:
            reply.add_call(call)
            self.publish(ToolCalled, message=reply.message.id, call=call)
        reply.finish = event.reason
        reply.tokens, reply.vocab = self._all_tokens(event), event.vocab
        if reply.generation is not None:
            reply.generation = msgspec.structs.replace(
                reply.generation,
                seed=event.seed,
                prompt_digest=event.prompt_digest,
                usage=event.usage,
                timings=event.timings,
                finish=event.reason,
            )
        if all(other.finish is not None for other in self._growing):
            self._told_everything.set()

    def _all_tokens(self, event: protocol.Finished) -> tuple[int, ...]:
        """The whole reply's token ids; none when those of its first part are not known."""
        if not self._assignment.continuing:
            return event.tokens
        vocab, first = self._assignment.first_tokens
        return (*first, *event.tokens) if first and vocab == event.vocab else ()

    def _record(self, generation: Generation) -> None:
        for reply in self._growing:
            reply.generation = generation

    async def _checkpoints(self) -> None:
        """Append what has arrived, once a second, until cancelled."""
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            pieces = [piece for reply in self._growing for piece in reply.take_unsaved()]
            if not pieces:
                continue
            storage = self._services.storage
            try:
                await storage.about(self.conversation, partial(_append, pieces))
            except (NotFound, StoreError):
                for reply in self._growing:  # the end tries again, and says so
                    reply.put_back(pieces)

    async def _end(self) -> None:
        """Save how every reply ended, tell the followers, and be done."""
        self._is_over = True  # what comes now comes too late
        endings = [self._ending(reply) for reply in self._growing]
        storage = self._services.storage
        try:
            final = await storage.about(
                self.conversation,
                lambda store: store.writer.finish(endings, self._assignment.back_to),
            )
        except (NotFound, StoreError) as error:
            self._services.notice(error.sentence)
            pairs = zip(self._growing, endings, strict=True)
            final = [_as_message(reply.message, ending) for reply, ending in pairs]
        self.replies = tuple(final)
        self.done = True
        if self.error is not None:
            self.publish(TurnFailed, error=self.error, replies=self.replies)
        else:
            self.publish(TurnFinished, replies=self.replies)
        self._published.close()

    def _ending(self, reply: GrowingReply) -> Ending:
        """Complete, cancelled, failed (the request) or interrupted (the worker, or ourselves)."""
        status: MessageStatus = "complete"
        sentence = None
        if reply.finish is None:
            if self.stopped:
                if reply.generation is not None:
                    reply.generation = msgspec.structs.replace(reply.generation, finish="cancelled")
            elif isinstance(self.error, WorkerDied) or self.error is None:
                status = "interrupted"
            else:
                status = "failed"
            sentence = None if self.error is None else self.error.sentence
        return reply.ending(status, sentence, is_nothing=self._is_nothing(reply))

    def _is_nothing(self, reply: GrowingReply) -> bool:
        """Whether a reply was stopped before anything was written, by the model or the user."""
        is_cut = self.stopped and self.error is None and reply.finish in (None, "cancelled")
        return is_cut and not reply.has_grown and not self._assignment.begins_with_edit


def _append(pieces: list[tuple[str, PartKind, str]], store: Store) -> None:
    store.writer.checkpoint(pieces)


def _as_message(message: Message, ending: Ending) -> Message:
    """A reply that could not be saved, as it would have been."""
    return msgspec.structs.replace(
        message,
        parts=ending.parts,
        status=ending.status,
        generation=ending.generation,
        error=ending.error,
    )


def _generation(
    model: ModelFile, settings: Resolved, facts: protocol.Facts, left_out: LeftOut | None
) -> Generation:
    """What is known of a reply before its first token."""
    origins = settings.origins()
    for name in facts.sampling.__struct_fields__:
        value = getattr(facts.sampling, name)
        if value is not None:
            origins.setdefault(f"sampling.{name}", Origin(value=value, source="model"))
    return Generation(
        model=model.name,
        identity=model.identity,
        settings=origins,
        template_digest=facts.template.digest,
        build=facts.build,
        left_out=left_out,
    )
