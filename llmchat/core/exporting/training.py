"""A branch as one line of JSON: the chat form that fine-tuning programs read.

`{"messages": [{"role", "content", ...}]}`, OpenAI's form (platform.openai.com/docs/guides/
fine-tuning), which TRL, Axolotl and llama-factory read as well; thinking is `reasoning_content`, as
llama.cpp and DeepSeek name it. Replies without a word are left out, images too.
"""

from typing import Any

import msgspec

from llmchat.core.exporting.branches import branch
from llmchat.core.prompting import written
from llmchat.values import Part, SavedConversation, SavedMessage

Entry = dict[str, Any]


def line(saved: SavedConversation) -> str:
    """The active branch as a line; nothing for a conversation in which nothing was said."""
    messages: list[Entry] = []
    if saved.settings.system:
        messages.append({"role": "system", "content": saved.settings.system})
    said = [entry for message in branch(saved) for entry in _entries(message)]
    if not said:
        return ""
    return msgspec.json.encode({"messages": messages + said}).decode() + "\n"


def _entries(message: SavedMessage) -> list[Entry]:
    """A message in OpenAI's form: a tool's result ends an entry and is one of its own."""
    entries: list[Entry] = []
    gathered: list[Part] = []
    for part in message.parts:
        if part.kind == "tool_result":
            entries += _entry(message.role, gathered)
            gathered = []
            entries.append(_result(part))
        else:
            gathered.append(part)
    return entries + _entry(message.role, gathered)


def _entry(role: str, parts: list[Part]) -> list[Entry]:
    entry: Entry = {"role": role, "content": written([p for p in parts if p.kind != "image"])}
    thinking = "".join(part.text for part in parts if part.kind == "thinking")
    calls = [_call(part) for part in parts if part.kind == "tool_call"]
    if not entry["content"] and not calls:
        return []
    if thinking:
        entry["reasoning_content"] = thinking
    if calls:
        entry["tool_calls"] = calls
    return [entry]


def _call(part: Part) -> Entry:
    function = {"name": part.meta.get("name", ""), "arguments": part.text}
    return {"id": part.meta.get("id", ""), "type": "function", "function": function}


def _result(part: Part) -> Entry:
    return {"role": "tool", "tool_call_id": part.meta.get("id", ""), "content": part.text}
