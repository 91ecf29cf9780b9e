"""Tools for a model whose template has no place for them, in the form that most others use.

Owns the words of Hermes' form (also Qwen's): tools in the system message, calls and results as
tagged JSON. Refuses marks and Jinja: it makes messages out of messages.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from llmchat.engine.protocol import ChatMessage
from llmchat.values import ToolCall

START: Final = "<tool_call>"
END: Final = "</tool_call>"
_EXPLAIN: Final = """\
You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a JSON object with its name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <arguments-json-object>}}
</tool_call>"""


def in_words(
    messages: Sequence[ChatMessage], tools: Iterable[Mapping[str, Any]]
) -> list[tuple[int, ChatMessage]]:
    """The conversation with its tools, calls and results written out; roles alternate.

    Each with the index of the message that it stands for.
    """
    told = _EXPLAIN.format(
        tools="\n".join(json.dumps(tool, ensure_ascii=False, default=str) for tool in tools)
    )
    has_system = bool(messages) and messages[0].role == "system"
    first = messages[0].content if has_system else ""
    found = [(0, ChatMessage(role="system", content=f"{first}\n\n{told}".strip()))]
    for index, message in enumerate(messages):
        shaped = _shaped(message)
        last = found[-1][1]
        if index == 0 and has_system:
            continue
        if shaped.role == last.role == "user":
            both = f"{last.content}\n{shaped.content}"
            found[-1] = (index, ChatMessage(role="user", content=both))
        else:
            found.append((index, shaped))
    return found


def _shaped(message: ChatMessage) -> ChatMessage:
    if message.role == "tool":
        answer = f"<tool_response>\n{message.content}\n</tool_response>"
        return ChatMessage(role="user", content=answer)
    if message.tool_calls:
        words = [message.content, *map(_call, message.tool_calls)]
        return replace(message, content="\n".join(filter(None, words)), tool_calls=(), tokens=())
    return message


def _call(call: ToolCall) -> str:
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = call.arguments
    body = json.dumps({"name": call.name, "arguments": arguments}, ensure_ascii=False)
    return f"{START}\n{body}\n{END}"
