"""OpenAI-style messages: `[{"role", "content"}]`, or `{"messages": [...]}` in JSON or JSONL.

The form of the Chat Completions API and of fine-tuning files (platform.openai.com/docs/api-
reference/chat), with what others added: `reasoning_content` (DeepSeek, llama.cpp) and `reasoning`.
The system prompt at the top becomes the conversation's. Pictures are named, not kept.
"""

from collections.abc import Iterator
from typing import Any

from llmchat.core.exporting import foreign
from llmchat.core.exporting.foreign import items, table, text
from llmchat.values import Part, SavedConversation, SavedMessage


def is_one(data: object) -> bool:
    """Whether this looks like a conversation of messages with roles."""
    messages = items(table(data).get("messages"))
    return any(text(table(message).get("role")) in foreign.ROLES for message in messages)


def read(data: dict[str, Any]) -> SavedConversation:
    """One conversation, a row of messages."""
    messages = [message for entry in items(data.get("messages")) for message in _message(entry)]
    system = ""
    if messages and messages[0].role == "system":
        system = "".join(part.text for part in messages.pop(0).parts)
    row = foreign.in_a_row(messages)
    return foreign.conversation(
        row,
        leaf=row[-1].id if row else None,
        system=system,
        name=data.get("title"),
        created=data.get("created"),
    )


def _message(entry: object) -> Iterator[SavedMessage]:
    fields = table(entry)
    role = foreign.ROLES.get(text(fields.get("role")))
    if role is None:
        return
    thinking = text(fields.get("reasoning_content")) or text(fields.get("reasoning"))
    words = "".join(content(fields.get("content")))
    parts = [Part(kind="thinking", text=thinking)]
    if role == "tool":
        meta = {"id": text(fields.get("tool_call_id")), "name": text(fields.get("name"))}
        parts.append(Part(kind="tool_result", text=words, meta=meta))
    else:
        parts.append(Part(kind="text", text=words))
    parts += [call(table(each)) for each in items(fields.get("tool_calls"))]
    kept = foreign.joined(parts)
    if kept:
        yield SavedMessage(
            id="",
            role=role,
            parts=kept,
            generation=foreign.made_by(fields.get("model")) if role == "assistant" else None,
        )


def content(value: object) -> Iterator[str]:
    """The words of a message's content: a string, or a list of typed parts."""
    if isinstance(value, str):
        yield text(value)
    for part in items(value):
        fields = table(part)
        if isinstance(part, str):
            yield text(part)
        elif isinstance(fields.get("text"), str):
            yield text(fields["text"])
        elif text(fields.get("type")):
            yield f"[{text(fields['type']).removesuffix('_url')[:80]}]"


def call(fields: dict[str, Any]) -> Part:
    """A tool call; its arguments are JSON text."""
    function = table(fields.get("function"))
    meta = {"id": text(fields.get("id")), "name": text(function.get("name"))}
    return Part(kind="tool_call", text=text(function.get("arguments")), meta=meta)
