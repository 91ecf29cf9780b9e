"""LM Studio's conversation files: `~/.lmstudio/conversations/*.conversation.json`.

`{name, createdAt (milliseconds), systemPrompt, pinned, messages}`; each message is
`{versions, currentlySelected}`. A version is a `singleStep` with `content`, or a `multiStep` with
`steps`, of which a `contentBlock` has `content` and a `style` (`thinking`). Content is a list of
`text`, `file`, `toolCallRequest` and `toolCallResult`. LM Studio calls the files internal and
documents none of it; this is what its versions 0.3 and 0.4 write.

The messages are a row and not a tree: all versions of one follow the selected version of the last.
"""

import json
from collections.abc import Iterator
from typing import Any

from llmchat.core.exporting import foreign
from llmchat.core.exporting.foreign import items, table, text
from llmchat.values import Part, SavedConversation, SavedMessage


def is_one(data: object) -> bool:
    """Whether this looks like one of its files."""
    messages = items(table(data).get("messages"))
    return any(isinstance(table(message).get("versions"), list) for message in messages)


def read(data: dict[str, Any]) -> SavedConversation:
    """The conversation with every version; the selected ones are the active branch."""
    messages: list[SavedMessage] = []
    leaf: str | None = None
    for entry in items(data.get("messages")):
        leaf = _add(messages, table(entry), leaf)
    return foreign.conversation(
        messages,
        leaf=leaf,
        system=text(data.get("systemPrompt")),
        name=data.get("name"),
        created=data.get("createdAt"),
        updated=data.get("assistantLastMessagedAt") or data.get("userLastMessagedAt"),
        pinned=data.get("pinned"),
    )


def _add(messages: list[SavedMessage], entry: dict[str, Any], above: str | None) -> str | None:
    """Add a message's versions below `above`; the name of the selected one, where the row goes on.

    If that one is empty, the row goes on at the last that is not.
    """
    selected = entry.get("currentlySelected")
    chosen: str | None = None
    last = above
    for number, version in enumerate(items(entry.get("versions"))):
        message = _version(table(version))
        if message is None:
            continue
        messages.append(foreign.renamed(message, len(messages), above))
        last = messages[-1].id
        if number == selected:
            chosen = last
    return chosen or last


def _version(value: dict[str, Any]) -> SavedMessage | None:
    role = foreign.ROLES.get(text(value.get("role")))
    if role is None:
        return None
    model: object = None
    if isinstance(value.get("steps"), list):
        steps = [table(step) for step in value["steps"]]
        found = [part for step in steps for part in _step(step)]
        models = [table(step.get("genInfo")).get("indexedModelIdentifier") for step in steps]
        model = next((name for name in models if name), None)
        model = model or table(value.get("senderInfo")).get("senderName")
    else:
        found = list(_content(value.get("content"), is_thinking=False))
    parts = foreign.joined(found)
    if not parts:
        return None
    made = foreign.made_by(model) if role == "assistant" else None
    return SavedMessage(id="", role=role, parts=parts, generation=made)


def _step(step: dict[str, Any]) -> Iterator[Part]:
    is_thinking = table(step.get("style")).get("type") == "thinking"
    yield from _content(step.get("content"), is_thinking=is_thinking)


def _content(value: object, *, is_thinking: bool) -> Iterator[Part]:
    for each in items(value):
        fields = table(each)
        kind = text(fields.get("type"))
        meta = {"id": _written(fields.get("callId")), "name": text(fields.get("name"))}
        if kind == "toolCallRequest":
            asked = fields.get("parameters", fields.get("arguments"))
            yield Part(kind="tool_call", text=_written(asked), meta=meta)
        elif kind == "toolCallResult":
            yield Part(kind="tool_result", text=_written(fields.get("content")), meta=meta)
        elif kind == "file":
            name = text(fields.get("fileIdentifier")) or text(fields.get("name"))
            yield Part(kind="text", text=f"[file {name}]")
        else:
            words = text(fields.get("text"))
            yield Part(kind="thinking" if is_thinking else "text", text=words)


def _written(value: object) -> str:
    """A string as it is, anything else as JSON."""
    if value is None or isinstance(value, str):
        return text(value)
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace").decode()
