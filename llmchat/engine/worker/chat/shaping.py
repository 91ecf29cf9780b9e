"""What a chat template is given of a conversation, in the shapes that templates expect.

Owns the shape of a message (Hugging Face's and OpenAI's names for its parts), where the words of a
system message go that a template refuses, and names that single templates want besides. Refuses
rendering (`template.py`) and marking what came from outside (`marks.py`): it asks the marks for it.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from llmchat.engine.protocol import ChatMessage, Messages
from llmchat.engine.worker.chat.marks import Marks
from llmchat.engine.worker.chat.probe import Markers

_THINKING_NAMES: Final = ("reasoning_content", "thinking", "reasoning")
"""DeepSeek's, gpt-oss's and Solar's name for what was thought before an answer."""


def shape_of(message: ChatMessage, index: int, marks: Marks, markers: Markers) -> dict[str, Any]:
    """A message as templates expect it."""
    shape: dict[str, Any] = {"role": message.role, "content": marks.wrap(index, message.content)}
    if message.thinking:
        thinking = marks.hide(message.thinking)
        shape.update(dict.fromkeys(_THINKING_NAMES, thinking))
    if message.name is not None:
        shape["name"] = marks.hide(message.name)
    if message.tool_call_id is not None:
        shape["tool_call_id"] = marks.hide(message.tool_call_id)
    if message.tool_calls:
        if not message.content:
            shape["content"] = markers.call_content
        shape["tool_calls"] = [
            {
                "id": marks.hide(call.id),
                "type": "function",
                "function": {
                    "name": marks.hide(call.name),
                    "arguments": marks.hide_all(
                        _arguments(call.arguments)
                        if markers.call_arguments == "object"
                        else call.arguments
                    ),
                },
            }
            for call in message.tool_calls
        ]
    return shape


def _arguments(text: str) -> object:
    """A call's arguments as an object; as the model wrote them if they are none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def without_system(shapes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """System messages put in front of the user message that follows them."""
    held: list[str] = []
    kept: list[dict[str, Any]] = []
    for shape in shapes:
        if shape["role"] == "system":
            held.append(shape["content"])
            continue
        if held and shape["role"] == "user":
            shape = {**shape, "content": "\n\n".join([*held, shape["content"]])}
            held = []
        kept.append(shape)
    if held:
        kept.append({"role": "user", "content": "\n\n".join(held)})
    return kept


def both_names(given: dict[str, Any]) -> dict[str, Any]:
    """`enable_thinking` under the name of DeepSeek and Granite, too."""
    if "enable_thinking" in given:
        return {"thinking": given["enable_thinking"], **given}
    return given


def other_names(source: str, given: Mapping[str, Any]) -> dict[str, object]:
    """FireFunction's template wants the tools as JSON text, and the day."""
    if "+ functions" not in source:
        return {}
    tools = json.dumps(given["tools"] or [], ensure_ascii=False)
    return {"functions": tools, "datetime": datetime.now().strftime("%B %d %Y")}


def texts_from_outside(prompt: Messages) -> Iterable[str]:
    """Every text from outside that goes into a rendering."""
    for message in prompt.messages:
        yield from (message.content, message.thinking, message.name or "")
        yield message.tool_call_id or ""
        for call in message.tool_calls:
            # Escapes like \\udb80 become characters when the arguments are read.
            yield from (
                call.id,
                call.name,
                json.dumps(_arguments(call.arguments), ensure_ascii=False),
            )
    yield json.dumps([prompt.tools, prompt.template_kwargs], ensure_ascii=False, default=str)
