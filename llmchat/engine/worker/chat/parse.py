"""A reply taken apart while it is written: text, thinking, tool calls.

Owns finding a template's markers in text that arrives in pieces. Any split of the same text gives
the same result: what may be the start of a marker waits for what follows it. Nothing is lost: text
that is no marker after all is passed on, and a call that never ends is still a `tool` piece.

What the loop must feed: the reply's text with the control tokens of `template.markers.tokens`
written out (they are markers here), without those that end the reply. Refuses tokens and templates.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec.structs import replace

from llmchat.engine.protocol import DeltaKind
from llmchat.engine.worker.chat import toolless
from llmchat.engine.worker.chat.calls import read_calls, string_parameters
from llmchat.engine.worker.chat.probe import Markers
from llmchat.engine.worker.chat.segments import Segment
from llmchat.engine.worker.chat.template import ChatTemplate
from llmchat.values import ToolCall

State = Literal["text", "thinking", "tool", "header"]
Pieces = list[tuple[DeltaKind, str]]

Rules = dict[State, dict[str, State]]
_HEADED: Final[dict[str, Rules]] = {
    "harmony": {
        "text": {"<|channel|>": "header", "<|start|>": "header", "<|end|>": "text"},
        "header": {"<|message|>": "header"},
        "thinking": {"<|end|>": "text", "<|start|>": "header", "<|channel|>": "header"},
        "tool": {"<|call|>": "text", "<|end|>": "text", "<|start|>": "header"},
    },
    "muse": {
        "text": {"<|start|>": "header", "<|eom|>": "text", "<|eot|>": "text"},
        "header": {"<|message|>": "header"},
        "thinking": {"<|eom|>": "text", "<|start|>": "header"},
        "tool": {"<|eom|>": "text", "<|eot|>": "text", "<|start|>": "header"},
    },
    "functionary": {
        "text": {"\n>>>": "header"},
        "header": {"\n": "header"},
        "thinking": {},
        "tool": {"\n>>>": "header", ">>>": "header"},
    },
}
"""Families whose replies come in parts, each behind a header that says what it holds."""
_BEGINS: Final = {
    "harmony": ("to=", "<|channel|>", "<|message|>"),
    "muse": ("to=", "<|message|>"),
}
_RECIPIENT: Final = re.compile(r"to=([\w.\-]+)")
_NAME: Final = re.compile(r"[A-Za-z_][\w.\-]{0,127}")


class ReplyParser:
    """One reply: `feed` as it comes, `end` once; then `tool_calls` is complete.

    White space at the borders of thinking belongs to the markers and is dropped. Thinking begins
    only where the reply, or what follows a call, begins: an answer may speak about `<think>`.
    """

    def __init__(
        self,
        template: ChatTemplate,
        *,
        prompt: Sequence[Segment] = (),
        tools: bool = True,
        definitions: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """A parser for one reply.

        Args:
            template: whose markers to look for.
            prompt: the segments rendered for this reply; they say whether the template opened
                thinking, and what the reply was made to begin with. Without them, what the
                template does by default.
            tools: whether any were offered; if not, what looks like a call is text.
            definitions: the tools, OpenAI-shaped: their schemas say which values are strings.
        """
        self._markers = template.markers
        self._tools = tools
        self._rules = _rules(self._markers, tools)
        self._bare_json = tools and self._markers.bare_json
        self._state: State = "text"
        self._held = ""
        self._header = ""
        self._fresh = True
        """Nothing but white space since the start or a call: thinking may begin."""
        self._space = ""
        """White space of thinking that is dropped if thinking ends after it."""
        self._skip_space = False
        self._starts: frozenset[str] | None = None
        """Amid an answer: what a marker begins with. None: what comes may be more than text."""
        self._bodies: list[str] = []
        self._texts = string_parameters(definitions)
        self._unsure = self._markers.family in _HEADED
        """A header should stand at the reply's start; a model may leave it out."""
        if self._unsure:
            self._state = "header"
        opening, prefill = _opening(self._markers, prompt)
        if self._markers.inside_thinking(opening):
            self._enter("thinking")
        self.feed(prefill)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls read so far; complete after `end`."""
        calls = [
            call
            for body in self._bodies
            for call in read_calls(body, self._texts, bare=self._bare_json)
        ]
        return tuple(replace(call, id=f"call_{n}") for n, call in enumerate(calls))

    @property
    def verbatim(self) -> bool:
        """Inside a call: its control tokens are needed to read it."""
        return self._state == "tool"

    def feed(self, text: str) -> Pieces:
        """What is certain now."""
        if self._starts is not None and not self._held and self._starts.isdisjoint(text):
            return [("text", text)] if text else []
        self._held += text
        return self._advance(final=False)

    def end(self) -> Pieces:
        """What was held back."""
        pieces = self._advance(final=True)
        if self._bare_json and self._state == "tool":
            # Held back as a whole: it is a call, or it only began like one.
            pieces.append(("tool" if self.tool_calls else "text", self._bodies[-1]))
        return _merged(pieces)

    def _advance(self, *, final: bool) -> Pieces:
        pieces: Pieces = []
        while True:
            if self._unsure:
                self._look_for_header(final=final)
            place, marker = _find(self._held, self._rules[self._state])
            if not marker:
                break
            end = place + len(marker)
            is_marker = self._is_marker(place, marker)
            self._emit(self._held[: place if is_marker else end], pieces)
            self._held = self._held[end:]
            if is_marker:
                self._pass(marker, pieces)
        keep = 0 if final else _partial(self._held, self._rules[self._state])
        ready = self._held[: len(self._held) - keep]
        self._held = self._held[len(ready) :]
        self._emit(ready, pieces)
        amid = self._state == "text" and not (self._fresh or self._skip_space or self._unsure)
        self._starts = frozenset(m[0] for m in self._rules["text"]) if amid else None
        return _merged(pieces)

    def _look_for_header(self, *, final: bool) -> None:
        """A reply should begin with a header; if this one cannot, what is there is text."""
        text = self._header + self._held
        place, marker = _find(text, self._rules["header"])
        if (final and not marker) or not _may_begin(
            self._markers.family, text[:place] if marker else text
        ):
            self._held, self._header = text, ""
            self._state, self._unsure = "text", False

    def _is_marker(self, place: int, marker: str) -> bool:
        """Whether a marker's text is one here."""
        if self._state == "text" and marker == self._markers.thinking_start.strip():
            return self._fresh and not self._held[:place].strip()
        return True

    def _pass(self, marker: str, pieces: Pieces) -> None:
        """Past a marker: into the state it opens."""
        if self._state == "header":
            self._pass_header(marker, pieces)
            return
        following = self._rules[self._state][marker]
        if following == "header":
            self._state = "header"
        elif not (self._state == following == "text"):  # what is skipped changes nothing
            self._enter(following)
            if following == "tool" and marker[-1] in '="':
                self._emit(marker, pieces)  # `<function=`: the call's own words

    def _pass_header(self, marker: str, pieces: Pieces) -> None:
        header, self._header = self._header, ""
        first, self._unsure = self._unsure, False
        family = self._markers.family
        following, name = _part(family, header)
        if family == "functionary" and not self._is_header(header.strip()):
            self._state = "text"  # somebody's `>>>`, or an answer of one word
            self._emit(("" if first else "\n>>>") + header + marker, pieces)
            return
        if following == "tool" and not self._tools:
            following = "text"
        self._enter(following)
        if following == "tool":
            self._bodies[-1] = name

    def _is_header(self, name: str) -> bool:
        return name == "all" or (self._tools and bool(_NAME.fullmatch(name)))

    def _enter(self, state: State) -> None:
        if state == "tool":
            self._bodies.append("")
        self._fresh = self._state == "tool"
        self._skip_space = state == "thinking" or self._state == "thinking"
        self._space = ""
        self._state = state

    def _emit(self, text: str, pieces: Pieces) -> None:
        """`text` lies in the current state."""
        if self._state == "header":
            self._header += text
            return
        if self._skip_space:
            text = text.lstrip()
        if not text:
            return
        self._skip_space = False
        if self._state == "thinking":
            text = self._space + text
            self._space = text[len(text.rstrip()) :]
            text = text.rstrip()
        elif self._state == "text" and self._is_bare_call(text):
            self._enter("tool")
        if self._state == "tool":
            self._bodies[-1] += text
            if self._bare_json:
                return
        if text.strip():
            self._fresh = False
        if text:
            pieces.append((self._state, text))

    def _is_bare_call(self, text: str) -> bool:
        return self._bare_json and self._fresh and text.lstrip().startswith("{")


def _rules(markers: Markers, tools: bool) -> Rules:
    """For each state, the markers that end it and the state they lead to."""
    if markers.family in _HEADED:
        return _HEADED[markers.family]
    rules: Rules = {"text": dict.fromkeys(markers.skipped, "text"), "thinking": {}, "tool": {}}
    if start := markers.thinking_start.strip():
        rules["text"][start] = "thinking"
        rules["thinking"][markers.thinking_end.strip()] = "text"
    if tools and markers.tool_start:
        for start in (markers.tool_start, markers.tool_also):
            if start:
                rules["text"][start] = "tool"
        if markers.tool_end:
            rules["tool"][markers.tool_end] = "text"
    if tools and not markers.tools and not markers.bare_json:
        rules["text"][toolless.START] = "tool"
        rules["tool"][toolless.END] = "text"
    return rules


def _part(family: str, header: str) -> tuple[State, str]:
    """What the part with this header holds; of a call, what its body begins with."""
    if family == "functionary":
        name = header.strip()
        return ("text", "") if name == "all" else ("tool", name)
    recipient = _RECIPIENT.search(header)
    if family == "muse":
        # Whom it is for: itself, the user, or a tool, whose call then names it again.
        whom = recipient[1] if recipient else "user"
        if whom == "self":
            return "thinking", ""
        return ("text" if whom == "user" else "tool"), ""
    if recipient:
        return "tool", recipient[1]
    return ("thinking" if "analysis" in header else "text"), ""


def _may_begin(family: str, text: str) -> bool:
    """Whether a reply that begins with `text` may begin with a header."""
    if family == "functionary":
        return not text.strip() or bool(_NAME.fullmatch(text))
    text = text.lstrip()
    return any(text.startswith(start) or start.startswith(text) for start in _BEGINS[family])


def _opening(markers: Markers, prompt: Sequence[Segment]) -> tuple[str, str]:
    """What asks for the reply, and what the reply was made to begin with."""
    start = markers.reply_start
    if not prompt or not start:
        return ("".join(segment.text for segment in prompt) or start), ""
    for place in range(len(prompt) - 1, -1, -1):
        segment = prompt[place]
        found = segment.text.rfind(start) if segment.special else -1
        if found >= 0:
            rest = "".join(part.text for part in prompt[place + 1 :])
            return start, segment.text[found + len(start) :] + rest
    return "".join(segment.text for segment in prompt), ""


def _find(text: str, markers: dict[str, State]) -> tuple[int, str]:
    """The first marker in `text`, the longest if several begin there; -1 and empty if none."""
    found = [(text.find(marker), -len(marker), marker) for marker in markers if marker in text]
    return (min(found)[0], min(found)[2]) if found else (-1, "")


def _partial(text: str, markers: dict[str, State]) -> int:
    """How many characters at the end of `text` may be the start of a marker."""
    longest = max((len(marker) for marker in markers), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        tail = text[-length:]
        if any(marker.startswith(tail) for marker in markers):
            return length
    return 0


def _merged(pieces: Pieces) -> Pieces:
    merged: Pieces = []
    for kind, text in pieces:
        if merged and merged[-1][0] == kind:
            merged[-1] = (kind, merged[-1][1] + text)
        else:
            merged.append((kind, text))
    return merged
