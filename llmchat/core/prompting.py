"""From a branch of the tree to the messages that a model reads.

Owns which messages count and how attachments are written into them; refuses templates, which the
worker renders.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from llmchat.core.context import choose
from llmchat.engine.protocol import ChatMessage, Messages
from llmchat.engine.session import Session
from llmchat.values import ATTACHED, ChatSettings, LeftOut, Message, Part, ToolCall

KeptTokens = Mapping[str, tuple[str, tuple[int, ...]]]
"""Token ids of unedited replies by message id, with their vocabulary's hash."""


BEFORE = "What was said before, summed up:"
"""The same in every language: it is the model that reads it."""


class Line(Struct, frozen=True):
    """A message of the prompt and the messages of the tree it stands for."""

    message: ChatMessage
    ids: tuple[str, ...]


def lines(branch: Sequence[Message], system: str | None, kept: KeptTokens) -> list[Line]:
    """The prompt in order. Replies without a word are left out, neighbours of one role are joined.

    Many templates refuse two messages of one role in a row, which is what a failed reply between
    two questions would leave.
    """
    result = [Line(ChatMessage(role="system", content=system), ())] if system else []
    for message in branch:
        if message.role == "tool":
            result += [Line(answered, (message.id,)) for answered in _results(message.parts)]
            continue
        content, calls = written(message.parts), _calls(message.parts)
        if message.role == "system" and len(result) <= 1 and is_summary(message):
            both = with_summary(system, content)
            result = [Line(ChatMessage(role="system", content=both), (message.id,))]
            continue
        if not content and not calls and message.role == "assistant":
            continue
        vocab, tokens = kept.get(message.id, ("", ()))
        last = result[-1] if result else None
        plain = not calls and last is not None and not last.message.tool_calls
        if plain and last is not None and last.ids and last.message.role == message.role:
            joined = ChatMessage(role=message.role, content=f"{last.message.content}\n\n{content}")
            result[-1] = Line(joined, (*last.ids, message.id))
            continue
        said = ChatMessage(
            role=message.role,
            content=content,
            thinking=message.thinking,
            tool_calls=calls,
            tokens=tokens,
            vocab=vocab,
        )
        result.append(Line(said, (message.id,)))
    return result


def is_summary(message: Message) -> bool:
    """Whether a message stands for others: see `compacting.py`."""
    return any("summary_of" in part.meta for part in message.parts)


def with_summary(system: str | None, summary: str) -> str:
    """A system prompt with what was said before, summed up."""
    told = f"{BEFORE}\n{summary}"
    return f"{system}\n\n{told}" if system else told


def _calls(parts: Sequence[Part]) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(id=part.meta.get("id", ""), name=part.meta.get("name", ""), arguments=part.text)
        for part in parts
        if part.kind == "tool_call"
    )


def _results(parts: Sequence[Part]) -> list[ChatMessage]:
    """What tools answered, one message for each call, as templates expect it."""
    return [
        ChatMessage(
            role="tool",
            content=part.text,
            tool_call_id=part.meta.get("id") or None,
            name=part.meta.get("name") or None,
        )
        for part in parts
        if part.kind in ("tool_result", "text")
    ]


def written(parts: Sequence[Part]) -> str:
    """A message's content as the model reads it: files first, each under its name.

    An image, as imported conversations have them, is named and said not to be shown: no model here
    sees yet.
    """
    files = [_file(part) for part in parts if part.kind in ATTACHED]
    text = "".join(part.text for part in parts if part.kind == "text")
    return "\n\n".join([*files, text] if text else files)


def _file(part: Part) -> str:
    if part.kind == "image":
        return f"[image {part.meta.get('name', '')}, which cannot be shown]"
    fence = "```"
    while fence in part.text:
        fence += "`"
    return f"{part.meta.get('name', 'file')}:\n{fence}\n{part.text}\n{fence}"


def template_kwargs(settings: ChatSettings) -> dict[str, object]:
    """What a template is told about thinking; nothing when nothing is set."""
    if settings.thinking is None:
        return {}
    if isinstance(settings.thinking, bool):
        return {"enable_thinking": settings.thinking}
    return {"enable_thinking": True, "reasoning_effort": settings.thinking}


async def fit(
    session: Session, prompt: Messages, ids: Sequence[tuple[str, ...]], budget: int, policy: str
) -> tuple[Messages, LeftOut | None]:
    """The prompt without what the policy leaves out, by the model's own count.

    Raises:
        GenerationFailed: it cannot be made to fit.
    """
    messages = list(prompt.messages)
    places = list(ids)
    left_out: list[str] = []
    first_total = total = 0
    while True:
        counted = await session.count(_with(prompt, messages))
        total = counted.tokens
        first_total = first_total or total
        counts = counted.messages or _by_length(messages, total)
        drop = choose([message.role for message in messages], counts, total, budget, policy)
        if not drop:
            break
        left_out += [id_ for index in drop for id_ in places[index]]
        messages = [message for index, message in enumerate(messages) if index not in drop]
        places = [place for index, place in enumerate(places) if index not in drop]
    if not left_out:
        return prompt, None
    record = LeftOut(messages=tuple(left_out), tokens=first_total - total, policy=policy)
    return _with(prompt, messages), record


def _with(prompt: Messages, messages: Sequence[ChatMessage]) -> Messages:
    return Messages(
        messages=tuple(messages),
        continue_final=prompt.continue_final,
        tools=prompt.tools,
        template_kwargs=prompt.template_kwargs,
    )


def _by_length(messages: Sequence[ChatMessage], total: int) -> list[int]:
    """Shares by length, for an engine that counts only the whole."""
    lengths = [len(message.content) + 16 for message in messages]
    return [max(1, total * length // sum(lengths)) for length in lengths]
