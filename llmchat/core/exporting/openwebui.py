"""Open WebUI's export of chats: a list of rows of its table, each with `chat` (open-webui, 0.3 on).

`chat.history` is the tree: `messages` by id, each with `parentId`, `childrenIds`, `role`,
`content`, `timestamp` and `model`, and `currentId`, the leaf that was shown. `chat.messages`, the
branch that was shown, stands in where an old file has no history. Reasoning lies in the content as
`<details type="reasoning">`, its lines quoted with `>` and escaped as HTML.
"""

import html
from collections.abc import Iterator
from typing import Any

from llmchat.core.exporting import foreign
from llmchat.core.exporting.foreign import Node, items, table, text
from llmchat.core.exporting.openai import content
from llmchat.values import Part, SavedConversation, SavedMessage

_OPEN, _CLOSE = '<details type="reasoning"', "</details>"
_SUMMARY_END = "</summary>"


def is_one(data: object) -> bool:
    """Whether this looks like one of its rows, or like the chat in one."""
    return isinstance(_history(table(data)).get("messages"), dict)


def _chat(data: dict[str, Any]) -> dict[str, Any]:
    return table(data["chat"]) if "chat" in data else data


def _history(data: dict[str, Any]) -> dict[str, Any]:
    return table(_chat(data).get("history"))


def read(data: dict[str, Any]) -> SavedConversation:
    """One conversation with every version."""
    chat, history = _chat(data), _history(data)
    nodes = {key: _node(table(value)) for key, value in table(history.get("messages")).items()}
    messages, places = foreign.plant(nodes)
    return foreign.conversation(
        messages,
        leaf=places.get(text(history.get("currentId"))),
        system=text(chat.get("system")) or text(table(chat.get("params")).get("system")),
        name=data.get("title") or chat.get("title"),
        created=data.get("created_at") or chat.get("timestamp"),
        updated=data.get("updated_at"),
        pinned=data.get("pinned"),
    )


def _node(value: dict[str, Any]) -> Node:
    parent = value.get("parentId")
    children = items(value.get("childrenIds"))
    return Node(
        parent=parent if isinstance(parent, str) else None,
        children=tuple(child for child in children if isinstance(child, str)),
        message=_message(value),
    )


def _message(value: dict[str, Any]) -> SavedMessage | None:
    role = foreign.ROLES.get(text(value.get("role")))
    if role is None:
        return None
    words = "".join(content(value.get("content")))
    parts = foreign.joined(_parts(words) if role == "assistant" else foreign.said(words))
    error = text(table(value.get("error")).get("content"))
    if not parts and not error:
        return None
    return SavedMessage(
        id="",
        role=role,
        parts=parts,
        created=foreign.moment(value.get("timestamp")),
        status="failed" if error else "complete",
        error=error or None,
        generation=foreign.made_by(value.get("model")) if role == "assistant" else None,
    )


def _parts(words: str) -> Iterator[Part]:
    """Reasoning and text in their order. Plain searches: each character is looked at once."""
    place = 0
    while (start := words.find(_OPEN, place)) >= 0:
        end = words.find(_CLOSE, start)
        if end < 0:
            break
        yield Part(kind="text", text=words[place:start].strip())
        yield Part(kind="thinking", text=_unquoted(words[start:end]))
        place = end + len(_CLOSE)
    yield Part(kind="text", text=words[place:].lstrip() if place else words)


def _unquoted(block: str) -> str:
    after = block.find(_SUMMARY_END)
    inner = block[after + len(_SUMMARY_END) :] if after >= 0 else block[block.find(">") + 1 :]
    lines = inner.strip("\n").split("\n")
    return html.unescape("\n".join(line.removeprefix(">").removeprefix(" ") for line in lines))
