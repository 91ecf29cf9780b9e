"""What a template writes around thinking and tool calls, found by rendering it and looking.

Owns the questions asked of a template and `Markers`, the answers. A list of model names would be
out of date the day it is written; a template rendered with a word that occurs nowhere else, with
and without the thing asked about, shows its markers itself. Families whose replies follow other
rules than their history (gpt-oss, Mistral, ...) are cases in `_FAMILIES`. Refuses to parse replies.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

Render = Callable[[Mapping[str, object]], str | None]
"""Renders raw template values; None if the template fails on them."""

_QUESTION: Final = "Qzwxquestion"
_ANSWER: Final = "Qzwxanswer"
_THOUGHT: Final = "Qzwxthought"
_SYSTEM: Final = "Qzwxsystem"
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "qzwxtool",
        "description": "qzwxdescription",
        "parameters": {
            "type": "object",
            "properties": {"qzwxkey": {"type": "string", "description": "qzwxwhat"}},
            "required": ["qzwxkey"],
        },
    },
}
_PAIRS: Final = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<reasoning>", "</reasoning>"),
)

_CALL_PAIRS: Final = (
    ("<\uff5ctool\u2581calls\u2581begin\uff5c>", "<\uff5ctool\u2581calls\u2581end\uff5c>"),
    ("<|tool_call_start|>", "<|tool_call_end|>"),
    ("<|tool_call>", "<tool_call|>"),
    ("<|START_ACTION|>", "<|END_ACTION|>"),
    ("<|tool_call|>", ""),
    ("[TOOL_CALLS]", ""),
    ("<tool_call>", "</tool_call>"),
)
"""For templates that do not write a call as their model does: DeepSeek, LFM2, Gemma 4, Command R,
Granite 3, Mistral, and Hermes' form."""
HARMONY_TOKENS: Final = (
    "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>",
)  # fmt: skip
_TAG: Final = re.compile(r"<[^<>\s]{1,60}>|\[[A-Z_]{3,40}\]")


class Markers(NamedTuple):
    """How replies of this template's model are written. Empty = it has no such thing.

    Thinking markers keep the white space that belongs to them; matching a reply ignores it.
    """

    thinking: Literal["no", "always", "toggle"] = "no"
    thinking_start: str = ""
    thinking_end: str = ""
    text_start: str = ""
    """What comes between the end of thinking and the answer (gpt-oss's channel header)."""
    text_alone: str = ""
    """The same for an answer without thinking."""
    system: bool = True
    tools: bool = False
    tool_start: str = ""
    tool_end: str = ""
    """Empty with a start: a call goes on to the reply's end."""
    bare_json: bool = False
    """A reply that is a JSON object is a call (Llama 3)."""
    family: str = ""
    """A case of its own: `harmony`, `mistral`, ..."""
    message_end: str = ""
    """What closes a user's message."""
    reply_start: str = ""
    """What asks for the reply."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every marker: control tokens among them must be part of the text that is parsed."""
        if self.family == "harmony":
            return HARMONY_TOKENS
        found = (self.thinking_start, self.thinking_end, self.tool_start, self.tool_end)
        return tuple(marker.strip() for marker in found if marker.strip())

    def inside_thinking(self, prompt: str) -> bool:
        """Whether a reply to `prompt` begins inside thinking, because the template opened it."""
        start = self.thinking_start.strip()
        return bool(start) and prompt.rstrip().endswith(start)


def probe(source: str, render: Render, *, present: bool = True) -> Markers:
    """Ask a template. About ten renderings; each may fail, which is an answer too."""
    if not present:
        return Markers(message_end="\n\n", reply_start="Assistant:", text_alone=" ")
    user = {"role": "user", "content": _QUESTION}
    asked = render({"messages": [user]}) or ""
    closed = render({"messages": [user], "add_generation_prompt": False}) or ""
    markers = Markers(
        system=_takes_system(render),
        tools=_takes_tools(render, asked),
        message_end=closed.partition(_QUESTION)[2],
        reply_start=asked.removeprefix(closed) if asked.startswith(closed) else "",
    )
    markers = _with_tools(_with_thinking(markers, source, render, asked), render)
    if markers.tool_start or markers.bare_json or markers.family:
        return markers
    if "<|tool_list_start|>" in source:
        # LFM2's template lists tools and leaves out how they are called.
        return markers._replace(tool_start="<|tool_call_start|>", tool_end="<|tool_call_end|>")
    for start, end in _CALL_PAIRS:
        if start in source:
            return markers._replace(tool_start=start, tool_end=end)
    return markers


def _takes_system(render: Render) -> bool:
    user = {"role": "user", "content": _QUESTION}
    text = render({"messages": [{"role": "system", "content": _SYSTEM}, user]})
    return text is not None and _SYSTEM in text


def _takes_tools(render: Render, asked: str) -> bool:
    text = render({"messages": [{"role": "user", "content": _QUESTION}], "tools": [_TOOL]})
    return text is not None and text != asked and "qzwxtool" in text


def _with_thinking(markers: Markers, source: str, render: Render, asked: str) -> Markers:
    if "<|channel|>analysis<|message|>" in source:
        return markers._replace(
            family="harmony",
            thinking="always",
            thinking_start="<|channel|>analysis<|message|>",
            thinking_end="<|end|>",
            text_start="<|start|>assistant<|channel|>final<|message|>",
            text_alone="<|channel|>final<|message|>",
        )
    if "<|channel>thought" in source:
        return markers._replace(
            thinking="toggle" if _toggles(render, asked) else "always",
            thinking_start="<|channel>thought\n",
            thinking_end="\n<channel|>",
        )
    start, end = _rendered_thinking(render) or _written_thinking(source)
    if not start:
        return markers
    return markers._replace(
        thinking="toggle" if _toggles(render, asked) else "always",
        thinking_start=start,
        thinking_end=end,
    )


def _rendered_thinking(render: Render) -> tuple[str, str] | None:
    """Markers as they stand around a thought in the last reply of a conversation."""
    reply: dict[str, Any] = {"role": "assistant", "content": _ANSWER}
    thought = {**reply, "reasoning_content": _THOUGHT, "thinking": _THOUGHT}
    user = {"role": "user", "content": _QUESTION}
    text = render({"messages": [user, thought], "add_generation_prompt": False})
    if text is None or _THOUGHT not in text or _ANSWER not in text:
        return None
    before, _, rest = text.partition(_THOUGHT)
    end, _, _ = rest.partition(_ANSWER)
    # Up to the marker: the line's white space and, before it, a tag or bracketed word.
    for sign in ("<", "["):
        place = before.rstrip().rfind(sign)
        if place >= 0 and before.rstrip().endswith((">", "]")) and end.strip():
            return before[place:], end
    return None


def _written_thinking(source: str) -> tuple[str, str]:
    for start, end in _PAIRS:
        if end in source:
            return start + "\n", "\n" + end + "\n\n"
    return "", ""


def _toggles(render: Render, asked: str) -> bool:
    user = {"role": "user", "content": _QUESTION}
    return any(
        (text := render({"messages": [user], "enable_thinking": wish, "thinking": wish}))
        is not None
        and text != asked
        for wish in (True, False)
    )


def _with_tools(markers: Markers, render: Render) -> Markers:
    """Markers around a call in the last reply of a conversation."""
    if not markers.tools or markers.family:
        return markers
    user = {"role": "user", "content": _QUESTION}
    call = {
        "id": "qzwxcall1",
        "type": "function",
        "function": {"name": "qzwxtool", "arguments": {"qzwxkey": "qzwxvalue"}},
    }
    reply = {"role": "assistant", "content": "", "tool_calls": [call]}
    given: dict[str, object] = {"tools": [_TOOL], "add_generation_prompt": False}
    base = render({**given, "messages": [user]}) or ""
    text = render({**given, "messages": [user, reply]}) or ""
    written = text[len(_common(base, text)) :]
    before, name, rest = written.partition("qzwxtool")
    if not name or "qzwxvalue" not in rest:
        return markers
    before = before[len(_common(before, markers.reply_start)) :]
    thinking = {markers.thinking_start.strip(), markers.thinking_end.strip()}
    header = set(_TAG.findall(markers.reply_start))
    tags = [tag for tag in _TAG.findall(before) if tag not in thinking | header]
    after = rest.rpartition("qzwxvalue")[2]
    if not tags:
        return markers._replace(bare_json=before.lstrip().startswith("{"))
    return markers._replace(tool_start=tags[0], tool_end=_closing(tags[0], after))


def _closing(start: str, after: str) -> str:
    """The tag in `after` that ends what `start` began, if there is one."""
    wishes = {
        start.replace("<", "</", 1),
        start.replace("[", "[/", 1),
        start.replace("<|", "<|/", 1),
        start.replace("<|", "<", 1)[:-1] + "|>",
        *(
            start.replace(one, other)
            for one, other in (
                ("begin", "end"),
                ("start", "end"),
                ("BEGIN", "END"),
                ("START", "END"),
            )
        ),
    } - {start}
    return next((tag for tag in _TAG.findall(after) if tag in wishes), "")


def _common(one: str, other: str) -> str:
    length = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return one[: min(len(one), len(other)) if length is None else length]
