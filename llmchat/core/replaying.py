"""Running a reply again as it was made, and what became different: `rt.replays`.

Owns going back from a stored reply to the request that made it: its branch, settings, seed and what
its prompt went without. Nothing is saved unless asked. A reply that went on from another is run
from where it went on.
"""

import difflib
import re
from contextlib import aclosing
from typing import Final

import msgspec
from msgspec import Struct

from llmchat.core import prompting
from llmchat.core.adapting import of_reply, wants_of
from llmchat.core.sessions import ModelSource, Sessions
from llmchat.core.settings import tree_of
from llmchat.core.storing import StoreThread
from llmchat.engine import protocol
from llmchat.engine.session import OnProgress, Session
from llmchat.errors import NotFound, UsageError
from llmchat.store.replies import Ending
from llmchat.store.rows import from_json, merged
from llmchat.values import ChatSettings, Generation, Message, ModelFile, Part

REMOVED: Final = ("[-", "-]")
ADDED: Final = ("{+", "+}")
"""Marks of a word diff, as git writes it."""

_WORDS = re.compile(r"\s+|[^\s]+")


class Change(Struct, frozen=True, kw_only=True):
    """Something that was not as it had been: `model`, `file`, `build`, `template` or `prompt`."""

    what: str
    before: str
    now: str


class Replay(Struct, frozen=True, kw_only=True):
    """A reply that was run again."""

    message: str
    before: str
    now: str
    before_thinking: str = ""
    now_thinking: str = ""
    changes: tuple[Change, ...] = ()
    generation: Generation
    saved: str | None = None
    """Id of the version that was saved."""

    @property
    def same(self) -> bool:
        """Whether every word came again."""
        return (self.before, self.before_thinking) == (self.now, self.now_thinking)


class _Stored(Struct, frozen=True):
    """What the store has of a reply."""

    message: Message
    made: Generation
    branch: list[Message]
    kept: dict[str, tuple[str, tuple[int, ...]]]
    began: Message | None = None
    """What it went on from, where it did."""
    first_tokens: tuple[str, tuple[int, ...]] = ("", ())
    """The vocabulary's hash and the token ids of that."""


class Replays:
    """Runs stored replies again."""

    def __init__(self, storage: StoreThread, models: ModelSource, sessions: Sessions) -> None:
        self._storage = storage
        self._models = models
        self._sessions = sessions

    async def run(
        self,
        reference: str,
        *,
        save: bool = False,
        on_progress: OnProgress = lambda _event: None,
    ) -> Replay:
        """Run a reply again.

        Args:
            reference: a reply's id, or a conversation: its last reply.
            save: keep the new reply as a version beside the old one.
            on_progress: told of the model's loading.

        Raises:
            NotFound: no such reply, or its model is not here any more.
            UsageError: it is no reply, or how it was made is not known.
            EngineError: the model cannot be loaded or asked.
        """
        stored = await self._storage.call(self._read, reference)
        values = _settings(stored.made)
        model = self._find_model(stored.made)
        keep_alive = values.keep_alive
        async with self._sessions.use(model, wants_of(values), keep_alive, on_progress) as session:
            request = _request(stored, values)
            parts, finished = await _collect(session, request)
            parts = merged([*(stored.began.parts if stored.began is not None else ()), *parts])
            facts = session.facts
        generation = msgspec.structs.replace(
            stored.made,
            model=model.name,
            identity=model.identity,
            seed=finished.seed,
            template_digest=facts.template.digest,
            prompt_digest=finished.prompt_digest,
            build=facts.build,
            usage=finished.usage,
            timings=finished.timings,
            finish=finished.reason,
        )
        saved = None
        if save:
            saved = await self._storage.call(self._save, stored, parts, generation, finished)
        now = msgspec.structs.replace(stored.message, parts=parts)
        return Replay(
            message=stored.message.id,
            before=stored.message.text,
            now=now.text,
            before_thinking=stored.message.thinking,
            now_thinking=now.thinking,
            changes=changes(stored.made, generation),
            generation=generation,
            saved=saved,
        )

    def _read(self, reference: str) -> _Stored:
        store = self._storage.store
        message = self._message(reference)
        if message.role != "assistant":
            raise UsageError("core.not_a_reply")
        if message.generation is None or message.status == "streaming":
            raise UsageError("core.no_record")
        branch = store.tree.branch(message.conversation, message.parent)
        made = message.generation
        began = _began(message, made)
        if began is not None:
            branch = [*branch, began]
        replies = [one.id for one in branch if one.role == "assistant"]
        kept = store.writer.tokens(replies) if store.db.writable else {}
        own = kept.pop(message.id, ("", ()))  # the text that it went on from was read as text
        count = made.continued.tokens if made.continued is not None else 0
        return _Stored(message, made, branch, kept, began, (own[0], own[1][:count]))

    def _message(self, reference: str) -> Message:
        store = self._storage.store
        try:
            return store.tree.find(reference)
        except NotFound:
            conversation = store.conversations.find(reference)
        branch = store.tree.branch(conversation.id, conversation.active_leaf)
        replies = [message for message in branch if message.role == "assistant"]
        if not replies:
            raise NotFound("core.no_reply", text=reference)
        return replies[-1]

    def _find_model(self, made: Generation) -> ModelFile:
        """The same file under whatever name it has now, else what has the name now."""
        same = (one for one in self._models.list() if made.identity == one.identity)
        return next(same, None) or self._models.resolve(made.model)

    def _save(
        self,
        stored: _Stored,
        parts: tuple[Part, ...],
        made: Generation,
        finished: protocol.Finished,
    ) -> str:
        store = self._storage.store
        with store.db.transaction():
            _, (reply,) = store.writer.begin(stored.message.conversation, stored.message.parent)
            ending = Ending(
                message=reply,
                parts=parts,
                status="complete",
                generation=made,
                tokens=_all_tokens(stored, finished),
                vocab=finished.vocab,
            )
            store.writer.finish([ending])
        return reply


def _began(message: Message, made: Generation) -> Message | None:
    """The reply as it was when it went on; None if it was made in one go."""
    if made.continued is None:
        return None
    left = made.continued.characters
    parts: list[Part] = []
    for part in message.parts:
        if part.kind in ("text", "thinking") and left > 0:
            parts.append(msgspec.structs.replace(part, text=part.text[:left]))
            left -= len(part.text)
    return msgspec.structs.replace(message, parts=tuple(parts))


def _all_tokens(stored: _Stored, finished: protocol.Finished) -> tuple[int, ...]:
    """The whole reply's token ids; none when those that it began with are not known."""
    if stored.began is None:
        return finished.tokens
    vocab, first = stored.first_tokens
    return (*first, *finished.tokens) if first and vocab == finished.vocab else ()


def _settings(made: Generation) -> ChatSettings:
    """The settings that it was made with: the inverse of `Resolved.origins`."""
    values = {key: origin.value for key, origin in made.settings.items()}
    return from_json(msgspec.json.encode(tree_of(values)), ChatSettings)


def _request(stored: _Stored, values: ChatSettings) -> protocol.Generate:
    """The request that made it. One that was stopped ends after as many tokens."""
    made = stored.made
    left_out = set(made.left_out.messages) if made.left_out is not None else set()
    lines = prompting.lines(stored.branch, values.system, stored.kept)
    messages = [line.message for line in lines if not left_out.intersection(line.ids)]
    max_tokens = values.max_tokens
    if made.finish == "cancelled" and made.usage.completion_tokens:
        max_tokens = made.usage.completion_tokens
    return protocol.Generate(
        prompt=protocol.Messages(
            messages=tuple(messages),
            continue_final=stored.began is not None,
            tools=values.tools or (),
            template_kwargs=prompting.template_kwargs(values),
        ),
        sampling=msgspec.structs.replace(values.sampling, seed=made.seed),
        max_tokens=max_tokens,
        **of_reply(values),
        constraint=values.constraint,
    )


async def _collect(
    session: Session, request: protocol.Generate
) -> tuple[tuple[Part, ...], protocol.Finished]:
    parts: list[Part] = []
    finished = protocol.Finished(id=0, reason="stop")
    async with aclosing(session.generate(request)) as events:
        async for event in events:
            if isinstance(event, protocol.Delta) and event.kind != "tool" and event.text:
                parts.append(Part(kind=event.kind, text=event.text))
            elif isinstance(event, protocol.Finished):
                finished = event
    for call in finished.tool_calls:
        meta = {"id": call.id, "name": call.name}
        parts.append(Part(kind="tool_call", text=call.arguments, meta=meta))
    return merged(parts), finished


def changes(before: Generation, now: Generation) -> tuple[Change, ...]:
    """What was not as it had been, where both are known."""
    pairs = {
        "model": (before.model, now.model),
        "file": (before.identity, now.identity),
        "build": (before.build, now.build),
        "template": (before.template_digest, now.template_digest),
        "prompt": (before.prompt_digest, now.prompt_digest),
    }
    return tuple(
        Change(what=what, before=old, now=new)
        for what, (old, new) in pairs.items()
        if old and new and old != new
    )


def word_diff(before: str, now: str) -> str:
    """Both texts as one, what went and what came between git's marks. Raw text."""
    old, new = _WORDS.findall(before), _WORDS.findall(now)
    result: list[str] = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        went, came = "".join(old[a:b]), "".join(new[c:d])
        if kind == "equal":
            result.append(went)
            continue
        result += [f"{REMOVED[0]}{went}{REMOVED[1]}"] if went else []
        result += [f"{ADDED[0]}{came}{ADDED[1]}"] if came else []
    return "".join(result)
