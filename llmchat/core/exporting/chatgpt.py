"""ChatGPT's export: `conversations.json` of the archive that "Export data" sends.

A list of conversations, each with `title`, `create_time`, `current_node` and `mapping`: a tree of
nodes `{id, message or null, parent, children}`. A message has `author.role`, `recipient` (`all`, or
the tool it calls), `metadata.model_slug` and `content` with a `content_type`: text and
multimodal_text have `parts`, code and execution_output have `text`, thoughts a list of them.
OpenAI documents none of it; this is what exports of 2023 to 2026 hold. Hidden messages and empty
nodes are left out, and what follows them moves up.
"""

from collections.abc import Iterator
from typing import Any

from llmchat.core.exporting import foreign
from llmchat.core.exporting.foreign import Node, items, table, text
from llmchat.values import Part, SavedConversation, SavedMessage


def is_one(data: object) -> bool:
    """Whether this looks like one of its conversations."""
    return isinstance(table(data).get("mapping"), dict)


def read(data: dict[str, Any]) -> SavedConversation:
    """One conversation with every version."""
    nodes = {key: _node(table(value)) for key, value in table(data.get("mapping")).items()}
    messages, places = foreign.plant(nodes)
    return foreign.conversation(
        messages,
        leaf=places.get(text(data.get("current_node"))),
        name=data.get("title"),
        created=data.get("create_time"),
        updated=data.get("update_time"),
        pinned=data.get("is_starred"),
    )


def _node(value: dict[str, Any]) -> Node:
    parent = value.get("parent")
    return Node(
        parent=parent if isinstance(parent, str) else None,
        children=tuple(child for child in items(value.get("children")) if isinstance(child, str)),
        message=_message(table(value.get("message"))),
    )


def _message(value: dict[str, Any]) -> SavedMessage | None:
    role = foreign.ROLES.get(text(table(value.get("author")).get("role")))
    metadata = table(value.get("metadata"))
    if role is None or metadata.get("is_visually_hidden_from_conversation") is True:
        return None
    name = text(table(value.get("author")).get("name"))
    recipient = text(value.get("recipient"))
    parts = list(_parts(table(value.get("content"))))
    if role == "tool":
        parts = [_as("tool_result", part, name) for part in parts]
    elif role == "assistant" and recipient not in ("", "all"):
        parts = [_as("tool_call", part, recipient) for part in parts]
    kept = foreign.joined(parts)
    if not any(part.text for part in kept):
        return None
    return SavedMessage(
        id="",
        role=role,
        parts=kept,
        created=foreign.moment(value.get("create_time")),
        status="interrupted" if value.get("status") == "in_progress" else "complete",
        generation=foreign.made_by(metadata.get("model_slug")) if role == "assistant" else None,
    )


def _as(kind: str, part: Part, name: str) -> Part:
    """Text as a tool's; thinking stays thinking."""
    if part.kind != "text":
        return part
    if kind == "tool_call":
        return Part(kind="tool_call", text=part.text, meta={"name": name})
    return Part(kind="tool_result", text=part.text, meta={"name": name})


def _parts(content: dict[str, Any]) -> Iterator[Part]:
    kind = text(content.get("content_type"))
    if kind == "thoughts":
        for thought in items(content.get("thoughts")):
            fields = table(thought)
            summary, words = text(fields.get("summary")), text(fields.get("content"))
            yield Part(kind="thinking", text="\n\n".join(filter(None, (summary, words))))
    elif kind == "reasoning_recap":  # "Thought for 8 seconds"
        yield Part(kind="thinking", text=text(content.get("content")))
    elif "parts" in content:
        for part in items(content["parts"]):
            yield Part(kind="text", text=_piece(part))
    else:
        yield Part(kind="text", text=text(content.get("text")) or text(content.get("result")))


def _piece(part: object) -> str:
    """A part: text, or a table that stands for a picture, a sound or its transcript."""
    fields = table(part)
    if not fields:
        return text(part)
    if text(fields.get("text")):
        return text(fields["text"])
    kind = text(fields.get("content_type")) or "attachment"
    name = text(table(fields.get("metadata")).get("name"))
    return f"[{kind.removesuffix('_asset_pointer')} {name}"[:200].rstrip() + "]"
