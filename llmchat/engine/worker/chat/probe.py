"""What a template writes around thinking and tool calls, found by rendering it and looking.

Owns the questions asked of a template and `Markers`, the answers. A list of model names would be
out of date the day it is written; a template rendered with a word that occurs nowhere else, with
and without the thing asked about, shows its markers itself. Families whose replies follow other
rules than their history (gpt-oss, Kimi K3, ...) are in `cases.py`. Refuses to parse replies.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from llmchat.engine.worker.chat import toolless
from llmchat.engine.worker.chat.cases import CALLS, CASES

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
_ARGUMENTS: Final[dict[str, object]] = {
    "object": {"qzwxkey": "qzwxvalue"},
    "text": '{"qzwxkey": "qzwxvalue"}',
}
_CALL_FORMS: Final[tuple[tuple[str | None, Literal["object", "text"]], ...]] = (
    ("", "object"),
    (None, "object"),
    ("", "text"),
    (None, "text"),
)
_PAIRS: Final = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<reasoning>", "</reasoning>"),
)

_FAMILY_TOKENS: Final = {
    "harmony": (
        "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>",
    ),
    "muse": ("<|start|>", "<|message|>", "<|eom|>", "<|eot|>"),
}  # fmt: skip
_TAG: Final = re.compile(r"<[^<>\s]{1,60}>|\[[A-Z_]{3,40}\]")
_UNFINISHED: Final = re.compile(r"<[\w:]{3,40}(?:=| name=\")$")
"""The start of a tag that goes on with the tool's name: `<function=`."""
_BARE_FUNCTION: Final = "<function="


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
    tool_also: str = ""
    """A second way to begin a call: models drop the tag around `<function=`."""
    skipped: tuple[str, ...] = ()
    """Headers and ends of the answer itself, which are no words of it."""
    call_content: str | None = ""
    """What the template takes for the content of a message that only calls: some test for none."""
    call_arguments: Literal["object", "text"] = "object"
    """In which form the template takes a call's arguments."""
    bare_json: bool = False
    """A reply that is a JSON object is a call (Llama 3)."""
    family: str = ""
    """Replies in parts, each with a header: `harmony`, `muse`, `functionary`."""
    message_end: str = ""
    """What closes a user's message."""
    reply_start: str = ""
    """What asks for the reply."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every marker: control tokens among them must be part of the text that is parsed."""
        given = (
            self.thinking_start, self.thinking_end, self.tool_start, self.tool_end, *self.skipped
        )  # fmt: skip
        whole = [marker.strip() for marker in given if marker.strip()]
        if not self.tools:
            whole += [toolless.START, toolless.END]
        tags = [tag for marker in whole for tag in _TAG.findall(marker)]
        return tuple(dict.fromkeys((*_FAMILY_TOKENS.get(self.family, ()), *whole, *tags)))

    def inside_thinking(self, prompt: str) -> bool:
        """Whether a reply to `prompt` begins inside thinking, because the template opened it."""
        start = self.thinking_start.strip()
        return bool(start) and prompt.rstrip().endswith(start)


def probe(source: str, render: Render, *, present: bool = True) -> Markers:
    """Ask a template. About a dozen renderings; each may fail, which is an answer too."""
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
    markers = _with_calls(_with_thinking(markers, source, render, asked), render)
    if not (markers.tool_start or markers.bare_json):
        start, end = next((row[1:] for row in CALLS if row[0] in source), ("", ""))
        markers = markers._replace(tool_start=start, tool_end=end)
    elif not markers.tool_end:
        end = next((row[2] for row in CALLS if row[1] == markers.tool_start), "")
        markers = markers._replace(tool_end=end)
    for case in CASES:
        if all(words in source for words in case.words):
            markers = markers._replace(**case.fields)
    return markers


def _takes_system(render: Render) -> bool:
    user = {"role": "user", "content": _QUESTION}
    text = render({"messages": [{"role": "system", "content": _SYSTEM}, user]})
    return text is not None and _SYSTEM in text


def _takes_tools(render: Render, asked: str) -> bool:
    text = render({"messages": [{"role": "user", "content": _QUESTION}], "tools": [_TOOL]})
    return text is not None and text != asked and "qzwxtool" in text


def _with_thinking(markers: Markers, source: str, render: Render, asked: str) -> Markers:
    if "<|channel>thought" in source:
        return markers._replace(thinking="toggle" if _toggles(render, asked) else "always")
    start, end = _rendered_thinking(render) or _written_thinking(source)
    if not start:
        return markers
    tag = _TAG.search(end)
    cut = tag.end() if tag else len(end)
    if not _TAG.search(end, cut):
        cut = len(end)  # white space alone belongs to the marker
    return markers._replace(
        thinking="toggle" if _toggles(render, asked) else "always",
        thinking_start=start,
        thinking_end=end[:cut],
        text_start=end[cut:],
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


def _with_calls(markers: Markers, render: Render) -> Markers:
    """Markers around a call in the last reply of a conversation."""
    user = {"role": "user", "content": _QUESTION}
    given: dict[str, object] = {"tools": [_TOOL], "add_generation_prompt": False}
    base = render({**given, "messages": [user]}) or ""
    for content, arguments in _CALL_FORMS:
        call = {
            "id": "qzwxcall1",
            "type": "function",
            "function": {"name": "qzwxtool", "arguments": _ARGUMENTS[arguments]},
        }
        reply = {"role": "assistant", "content": content, "tool_calls": [call]}
        text = render({**given, "messages": [user, reply]}) or ""
        before, name, rest = text[_parting(base, text) :].partition("qzwxtool")
        if name and "qzwxvalue" in rest:
            written = markers._replace(call_content=content, call_arguments=arguments)
            return _around_call(written, before, rest.rpartition("qzwxvalue")[2])
    return markers


def _around_call(markers: Markers, before: str, after: str) -> Markers:
    """The markers in the words `before` a call's name and `after` its last value."""
    before = before[_parting(markers.reply_start, before) :]
    thinking = {markers.thinking_start.strip(), markers.thinking_end.strip()}
    known = thinking | {*_TAG.findall(markers.reply_start), *_TAG.findall(markers.text_start)}
    tags = [tag for tag in _TAG.findall(before) if tag not in known]
    unfinished = _UNFINISHED.search(before)
    if tags:
        also = _BARE_FUNCTION if unfinished and unfinished[0] == _BARE_FUNCTION else ""
        return markers._replace(
            tool_start=tags[0], tool_end=_closing(tags[0], after), tool_also=also
        )
    if unfinished:
        return markers._replace(tool_start=unfinished[0], tool_end="")
    return markers._replace(bare_json=before.lstrip().startswith("{"))


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
                ("prefix", "suffix"),
            )
        ),
    } - {start}
    return next((tag for tag in _TAG.findall(after) if tag in wishes), "")


def _parting(one: str, other: str) -> int:
    """Where `other` stops being the same as `one`; never inside of a tag."""
    pairs = enumerate(zip(one, other, strict=False))
    place = next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
    for opening, closing in ("<>", "[]"):
        start = other.rfind(opening, 0, place)
        if start >= 0 and closing not in other[start:place] and _TAG.match(other, start):
            place = start
    return place
