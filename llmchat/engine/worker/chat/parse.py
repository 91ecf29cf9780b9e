"""A reply taken apart while it is written: text, thinking, tool calls.

Owns finding a template's markers in text that arrives in pieces. Any split of the same text gives
the same result: what may be the start of a marker waits for what follows it. Nothing is lost: text
that is no marker after all is passed on, and a call that never ends is still a `tool` piece.

What the loop must feed: the reply's text with the control tokens of `template.markers.tokens`
written out (they are markers here), without those that end the reply. Refuses tokens and templates.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal

from msgspec.structs import replace

from llmchat.engine.worker.chat.calls import read_calls
from llmchat.engine.worker.chat.probe import Markers
from llmchat.engine.worker.chat.template import ChatTemplate, Segment
from llmchat.values import ToolCall

Kind = Literal["text", "thinking", "tool"]
State = Literal["text", "thinking", "tool", "header"]
Pieces = list[tuple[Kind, str]]

_HARMONY: Final[dict[State, dict[str, State]]] = {
    "text": {"<|channel|>": "header", "<|start|>": "header", "<|end|>": "text"},
    "header": {"<|message|>": "header"},
    "thinking": {"<|end|>": "text", "<|start|>": "header", "<|channel|>": "header"},
    "tool": {"<|call|>": "text", "<|end|>": "text", "<|start|>": "header"},
}
_RECIPIENT: Final = re.compile(r"to=([\w.\-]+)")


class ReplyParser:
    """One reply: `feed` as it comes, `end` once; then `tool_calls` is complete.

    White space at the borders of thinking belongs to the markers and is dropped. Thinking begins
    only where the reply, or what follows a call, begins: an answer may speak about `<think>`.
    """

    def __init__(
        self, template: ChatTemplate, *, prompt: Sequence[Segment] = (), tools: bool = True
    ) -> None:
        """A parser for one reply.

        Args:
            template: whose markers to look for.
            prompt: the segments rendered for this reply; they say whether the template opened
                thinking, and what the reply was made to begin with. Without them, what the
                template does by default.
            tools: whether any were offered; if not, what looks like a call is text.
        """
        self._markers = template.markers
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
        self._bodies: list[str] = []
        opening, prefill = _opening(self._markers, prompt)
        if self._markers.inside_thinking(opening):
            self._enter("thinking")
        self.feed(prefill)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls read so far; complete after `end`."""
        calls = [call for body in self._bodies for call in read_calls(body)]
        return tuple(replace(call, id=f"call_{n}") for n, call in enumerate(calls))

    def feed(self, text: str) -> Pieces:
        """What is certain now."""
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
            place, marker = _find(self._held, self._rules[self._state])
            if not marker:
                break
            if self._is_marker(place, marker):
                self._emit(self._held[:place], pieces)
                self._held = self._held[place + len(marker) :]
                self._pass(marker)
            else:
                self._emit(self._held[: place + len(marker)], pieces)
                self._held = self._held[place + len(marker) :]
        keep = 0 if final else _partial(self._held, self._rules[self._state])
        ready = self._held[: len(self._held) - keep]
        self._held = self._held[len(ready) :]
        self._emit(ready, pieces)
        return _merged(pieces)

    def _is_marker(self, place: int, marker: str) -> bool:
        """Whether a marker's text is one here."""
        if self._state == "text" and marker == self._markers.thinking_start.strip():
            return self._fresh and not self._held[:place].strip()
        return True

    def _pass(self, marker: str) -> None:
        """Past a marker: into the state it opens."""
        if self._state != "header":
            following = self._rules[self._state][marker]
            if following == "header":
                self._state = "header"
            else:
                self._enter(following)
            return
        header, self._header = self._header, ""
        following = _channel(header)
        self._enter(following)
        if following == "tool":
            self._bodies[-1] = _RECIPIENT.findall(header)[0]

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
        elif self._state == "tool":
            self._bodies[-1] += text
            if self._bare_json:
                return
        elif self._bare_json and self._fresh and text.lstrip().startswith("{"):
            self._enter("tool")
            self._emit(text, pieces)
            return
        if text.strip():
            self._fresh = False
        if text:
            pieces.append((self._state, text))


def _rules(markers: Markers, tools: bool) -> dict[State, dict[str, State]]:
    """For each state, the markers that end it and the state they lead to."""
    if markers.family == "harmony":
        return _HARMONY
    rules: dict[State, dict[str, State]] = {"text": {}, "thinking": {}, "tool": {}}
    if start := markers.thinking_start.strip():
        rules["text"][start] = "thinking"
        rules["thinking"][markers.thinking_end.strip()] = "text"
    if tools and markers.tool_start:
        rules["text"][markers.tool_start] = "tool"
        if markers.tool_end:
            rules["tool"][markers.tool_end] = "text"
    return rules


def _channel(header: str) -> State:
    """What a message with this harmony header holds."""
    if _RECIPIENT.search(header):
        return "tool"
    return "thinking" if "analysis" in header else "text"


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
