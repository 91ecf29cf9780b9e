"""One turn: the user's words are saved; the model is asked; the replies grow, and are kept.

A turn is a task of the Runtime. Faces follow its events and may leave; only `cancel` or closing the
Runtime stops it. However it ends, its rows are brought to an end: complete, failed or interrupted,
with the text that there is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

import msgspec

from llmchat.core import prompting
from llmchat.core.context import room_for_reply
from llmchat.core.events import (
    AnyChatEvent,
    ContextDropped,
    ModelLoading,
    PromptRead,
    Queued,
    TextAdded,
    ThinkingAdded,
    ToolCalled,
    TurnFailed,
    TurnFinished,
    TurnStarted,
)
from llmchat.core.following import Published
from llmchat.core.growing import GrowingReply
from llmchat.core.sessions import ModelSource, Sessions
from llmchat.core.settings import Resolved
from llmchat.core.storing import StoreThread
from llmchat.engine import protocol
from llmchat.engine.session import GenerateEvent, Session
from llmchat.errors import LlmchatError, NotFound, StoreError, WorkerDied
from llmchat.store.ids import new_id
from llmchat.store.replies import Ending
from llmchat.values import (
    Conversation,
    FinishReason,
    Generation,
    LeftOut,
    Message,
    MessageStatus,
    ModelFile,
    Origin,
)

CHECKPOINT_SECONDS = 1.0

LAST_WORDS_SECONDS = 0.5
"""How long a stopped reply is waited for: the worker's counts and tokens come within one token."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a turn works with; the Runtime owns them."""

    storage: StoreThread
    models: ModelSource
    sessions: Sessions
    resolve: Callable[[Conversation, str | None], Resolved]
    """The settings in force, given the resolved model's name once it is known."""
    notice: Callable[[str], None]
    """Tells the user of something that is not this turn's error."""
    unsaved: list[Ending]
    """Collects what could not be saved; it is tried again."""
    used: Callable[[str], None]
    """Is told the name of the model once it is open."""
    asked: Callable[[ModelFile], None]
    """Is told the model before it is opened: somebody asks for it."""


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


class Turn:
    """A running or finished turn. `done` once its replies are saved."""

    def __init__(self, services: Services, assignment: Assignment) -> None:
        self.id = new_id()
        self.conversation = assignment.conversation.id
        self.question = assignment.question
        self.replies = assignment.replies
        self.done = False
        self.error: LlmchatError | None = None
        self._services = services
        self._assignment = assignment
        self._growing = [GrowingReply(message) for message in assignment.replies]
        self._published = Published()
        self._reading: tuple[float, int] | None = None
        self._cut: FinishReason | None = None
        self._is_answered = False
        self._is_over = False
        self._told_everything = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, as a task of the running loop."""
        self._publish(TurnStarted, question=self.question, replies=self.replies)
        self._task = asyncio.create_task(self._run(), name=f"turn {self.id}")

    def events(self) -> AsyncIterator[AnyChatEvent]:
        """What has happened, neighbouring text merged, then what happens. Leaving stops nothing."""
        return self._published.follow()

    async def wait(self) -> tuple[Message, ...]:
        """The final replies.

        Raises:
            LlmchatError: what the turn failed with.
        """
        assert self._task is not None
        await asyncio.shield(self._task)
        if self.error is not None:
            raise self.error
        return self.replies

    async def ended(self) -> None:
        """Returns once the replies are saved, however the turn ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def cancel(self) -> None:
        """Stop; the text so far is kept as a complete reply. Once is enough, more do nothing."""
        if self._task is not None and self._cut is None and not self._is_answered:
            self._cut = "cancelled"
            self._task.cancel()

    async def _run(self) -> None:
        saving = asyncio.create_task(self._checkpoints())
        try:
            await self._answer()
            self._is_answered = True
        except asyncio.CancelledError:
            if self._cut is None:
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
        model = await asyncio.to_thread(self._find_model)
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
        values = settings.values
        async with self._services.sessions.use(
            model, values.wants, values.keep_alive, self._loading(model)
        ) as session:
            self._services.used(model.name)
            request, left_out = await self._request(session, settings)
            self._record(_generation(model, settings, session.facts, left_out))
            if left_out is not None:
                self._publish(
                    ContextDropped,
                    messages=left_out.messages,
                    tokens=left_out.tokens,
                    policy=left_out.policy,
                )
            async with aclosing(session.generate(request, self._take_late)) as events:
                async for event in events:
                    self._take(event)

    def _find_model(self) -> ModelFile:
        wanted = self._services.resolve(self._assignment.conversation, None).values.model
        model = self._services.models.resolve(wanted) if wanted else self._services.models.default()
        if model is None:
            raise NotFound("core.no_model")
        return model

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
            template_kwargs=prompting.template_kwargs(values),
        )
        n_ctx = session.facts.n_ctx
        budget = n_ctx - room_for_reply(n_ctx, values.max_tokens)
        policy = values.context_policy or "drop-middle"
        ids = [line.ids for line in lines]
        prompt, left_out = await prompting.fit(session, prompt, ids, budget, policy)
        request = protocol.Generate(
            prompt=prompt,
            sampling=values.sampling,
            n=len(self._growing),
            max_tokens=values.max_tokens,
            stop=values.stop or (),
            ignore_eos=bool(values.ignore_eos),
            constraint=values.constraint,
        )
        return request, left_out

    def _loading(self, model: ModelFile) -> Callable[[protocol.Plan | protocol.Loading], None]:
        def report(event: protocol.Plan | protocol.Loading) -> None:
            if isinstance(event, protocol.Loading):
                fraction, stage = event.fraction, str(event.stage)
            else:
                fraction, stage = 0.0, "plan"
            self._publish(ModelLoading, model=model.name, fraction=fraction, stage=stage)

        return report

    def _take(self, event: GenerateEvent) -> None:
        match event:
            case protocol.Queued(position=position):
                self._publish(Queued, position=position)
            case protocol.PromptProgress():
                self._publish_reading(event)
            case protocol.Delta(choice=choice, kind=kind, text=text):
                self._add(self._growing[choice], kind, text)
            case protocol.Finished():
                self._finish(self._growing[event.choice], event)

    def _add(self, reply: GrowingReply, kind: str, text: str) -> None:
        if not text or kind == "tool":  # a call is taken whole, from Finished
            return
        if kind == "thinking":
            reply.add("thinking", text)
            self._publish(ThinkingAdded, message=reply.message.id, text=text)
        else:
            reply.add("text", text)
            self._publish(TextAdded, message=reply.message.id, text=text)

    def _finish(self, reply: GrowingReply, event: protocol.Finished) -> None:
        for call in event.tool_calls:
            reply.add_call(call)
            self._publish(ToolCalled, message=reply.message.id, call=call)
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

    def _publish_reading(self, event: protocol.PromptProgress) -> None:
        """Progress of reading, with the time left by the pace since the first report."""
        now = time.monotonic()
        if self._reading is None:
            self._reading = (now, event.done)
        began, first = self._reading
        read = event.done - first
        left = (event.total - event.done) * (now - began) / read if read > 0 else None
        self._publish(
            PromptRead,
            done=event.done,
            total=event.total,
            from_memory=event.from_memory,
            from_disk=event.from_disk,
            seconds_left=left,
        )

    def _record(self, generation: Generation) -> None:
        for reply in self._growing:
            reply.generation = generation

    def _publish(self, kind: type[AnyChatEvent], **values: object) -> None:
        self._published.add(kind(turn=self.id, conversation=self.conversation, **values))  # type: ignore[arg-type]

    async def _checkpoints(self) -> None:
        """Append what has arrived, once a second, until cancelled."""
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            pieces = [piece for reply in self._growing for piece in reply.take_unsaved()]
            if not pieces:
                continue
            storage = self._services.storage
            try:
                await storage.call(storage.store.writer.checkpoint, pieces)
            except StoreError:
                for reply in self._growing:  # the end tries again, and says so
                    reply.put_back(pieces)

    async def _end(self) -> None:
        """Save how every reply ended, tell the followers, and be done."""
        self._is_over = True  # what comes now comes too late
        endings = [self._ending(reply) for reply in self._growing]
        storage = self._services.storage
        try:
            final = await storage.call(storage.store.writer.finish, endings)
        except StoreError as error:
            self._services.notice(error.sentence)
            self._services.unsaved.extend(endings)
            pairs = zip(self._growing, endings, strict=True)
            final = [_as_message(reply.message, ending) for reply, ending in pairs]
        self.replies = tuple(final)
        self.done = True
        if self.error is not None:
            self._publish(TurnFailed, error=self.error, replies=self.replies)
        else:
            self._publish(TurnFinished, replies=self.replies)
        self._published.close()

    def _ending(self, reply: GrowingReply) -> Ending:
        """Complete, cancelled, failed (the request) or interrupted (the worker, or ourselves)."""
        status: MessageStatus = "complete"
        sentence = None
        if reply.finish is None:
            if self._cut is not None:
                if reply.generation is not None:
                    reply.generation = msgspec.structs.replace(reply.generation, finish=self._cut)
            elif isinstance(self.error, WorkerDied) or self.error is None:
                status = "interrupted"
            else:
                status = "failed"
            sentence = None if self.error is None else self.error.sentence
        return reply.ending(status, sentence)


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
