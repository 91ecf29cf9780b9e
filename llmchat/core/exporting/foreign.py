"""What the readers of other programs' files share: asking loose JSON for values, growing a tree.

Nothing is taken for granted: a field of another type is as good as missing. Names here are local
(`m0`, `m1`...); `naming.py` gives real ones.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from llmchat.core.exporting.own import LAST_MOMENT
from llmchat.values import Generation, Part, Role, SavedConversation, SavedMessage

TITLE_LENGTH = 1000
MILLISECONDS_FROM = 1e11
"""A larger time is in milliseconds: in seconds it would be the year 5138."""

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""OpenAI's names, and those that other programs use for them."""


def text(value: object) -> str:
    """A string, or nothing; U+FFFD for lone surrogates, which JSON can spell and UTF-8 cannot."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode(
        "utf-16", "replace"
    )  # fmt: skip


def table(value: object) -> dict[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """A list, or an empty one."""
    return value if isinstance(value, list) else []


def moment(value: object) -> float:
    """Seconds since 1970 from seconds or milliseconds; 0 if it is no time."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    seconds = value / 1000 if value > MILLISECONDS_FROM else float(value)
    return seconds if math.isfinite(seconds) and 0 <= seconds < LAST_MOMENT else 0.0


def title(value: object) -> str:
    """A title on one line."""
    return " ".join(text(value).split())[:TITLE_LENGTH]


def said(words: str) -> tuple[Part, ...]:
    """Visible text as parts."""
    return (Part(kind="text", text=words),) if words else ()


def joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Parts without empty ones; neighbours of text, and of thinking, become one."""
    result: list[Part] = []
    for part in parts:
        last = result[-1] if result else None
        if last is not None and last.kind == part.kind and part.kind in ("text", "thinking"):
            result[-1] = Part(kind=part.kind, text=f"{last.text}\n\n{part.text}")
        elif part.text or part.kind in ("tool_call", "tool_result"):
            result.append(part)
    return tuple(result)


def made_by(model: object) -> Generation | None:
    """The little that another program tells of how a reply came to be."""
    name = text(model)[:TITLE_LENGTH]
    return Generation(model=name) if name else None


class Node(Struct, frozen=True, kw_only=True):
    """A place in another program's tree. Without a message, what follows moves up to its parent."""

    parent: str | None = None
    children: tuple[str, ...] = ()
    message: SavedMessage | None = None


def plant(nodes: Mapping[str, Node]) -> tuple[list[SavedMessage], dict[str, str | None]]:
    """Messages in order, parents first, from nodes in any order and of any shape.

    Nodes that only lead to one another, in a circle, become roots: no word is lost, and there is an
    end.

    Returns:
        The messages under local names, and for each node the name of its message or of the nearest
        one above.
    """
    messages: list[SavedMessage] = []
    places: dict[str, str | None] = {}
    following = _following(nodes)
    roots = [key for key, node in nodes.items() if node.parent not in nodes]
    for start in [*roots, *nodes]:
        waiting: list[tuple[str, str | None]] = [(start, None)]
        while waiting:
            key, above = waiting.pop()
            if key in places:
                continue
            message = nodes[key].message
            if message is not None:
                messages.append(renamed(message, len(messages), above))
                above = messages[-1].id
            places[key] = above
            waiting += [(child, above) for child in reversed(following[key])]
    return messages, places


def _following(nodes: Mapping[str, Node]) -> dict[str, list[str]]:
    """What follows each node: as it lists them, then those that only name it as their parent."""
    following = {
        key: list(dict.fromkeys(child for child in node.children if child in nodes))
        for key, node in nodes.items()
    }
    listed = {child for children in following.values() for child in children}
    for key, node in nodes.items():
        if node.parent in following and key not in listed and node.parent is not None:
            following[node.parent].append(key)
    return following


def renamed(message: SavedMessage, number: int, parent: str | None) -> SavedMessage:
    """The message under its local name."""
    from msgspec.structs import replace

    return replace(message, id=f"m{number}", parent=parent)


def in_a_row(messages: Sequence[SavedMessage]) -> list[SavedMessage]:
    """Messages that follow one another, without versions."""
    row: list[SavedMessage] = []
    for number, message in enumerate(messages):
        row.append(renamed(message, number, f"m{number - 1}" if number else None))
    return row


def conversation(
    messages: Sequence[SavedMessage],
    *,
    leaf: str | None,
    system: str = "",
    name: object = "",
    created: object = 0,
    updated: object = 0,
    pinned: object = False,
) -> SavedConversation:
    """The conversation, still without an id. Times that it lacks come from its messages."""
    from llmchat.core.exporting.branches import newest_leaf
    from llmchat.values import ChatSettings

    whole = tuple(messages)
    times = [message.created for message in whole if message.created]
    first = moment(created) or min(times, default=0.0)
    return SavedConversation(
        id="",
        title=title(name),
        created=first,
        updated=moment(updated) or max(times, default=first),
        settings=ChatSettings(system=system or None),
        active_leaf=leaf or newest_leaf(whole),
        pinned=pinned is True,
        messages=whole,
    )
