"""A model's chat template: from messages to the text that the model is asked to continue.

Owns rendering, and telling which parts of the text are the template's (control tokens are read
there) and which came from outside (they are not). Refuses tokens: the loop tokenizes the segments,
and the shapes of what a template is given (`shaping.py`).

What a template is given, as Hugging Face's `apply_chat_template` gives it:

    messages               role, content, and where there are any: reasoning_content (also as
                           `thinking` and `reasoning`), tool_calls (OpenAI's shape, arguments as
                           an object, or as text if only that works), tool_call_id, name
    tools                  OpenAI-shaped definitions, or none
    bos_token eos_token    the tokens' text
    add_generation_prompt  True, so that the text ends where the assistant's words begin
    raise_exception strftime_now, tojson, `generation`, break and continue
    template_kwargs        enable_thinking, reasoning_effort, ...; `enable_thinking` is also given
                           as `thinking`, the name that DeepSeek and Granite use

A template that refuses a system message gets its words in front of the first user message. A model
without a template, or whose template cannot be compiled, gets the plain form of `PLAIN`:

    System's words

    User: the question

    Assistant:

and `facts.present` is False; `problem` says why a template that is there cannot be used.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from jinja2 import Template, TemplateError
from jinja2.exceptions import SecurityError

from llmchat.engine.protocol import ChatMessage, Messages, TemplateFacts
from llmchat.engine.worker.chat import toolless
from llmchat.engine.worker.chat.marks import Marks, Piece
from llmchat.engine.worker.chat.probe import Markers, probe
from llmchat.engine.worker.chat.sandbox import DEADLINE, OutOfBounds, Refused, Sandbox
from llmchat.engine.worker.chat.segments import Segment
from llmchat.engine.worker.chat.shaping import (
    both_names,
    other_names,
    shape_of,
    texts_from_outside,
    without_system,
)
from llmchat.errors import GenerationFailed

PLAIN: Final = """\
{%- for message in messages -%}
{%- if message.role == 'system' %}{{ message.content }}
{%- elif message.role == 'assistant' %}Assistant: {{ message.content }}
{%- elif message.role == 'user' %}User: {{ message.content }}
{%- else %}{{ message.role | capitalize }}: {{ message.content }}
{%- endif %}
{{- '\\n\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}Assistant:{% endif %}"""
PLAIN_STOPS: Final = ("\nUser:",)


class ChatTemplate:
    """One model's template. For one thread at a time."""

    def __init__(self, source: str, *, bos: str, eos: str, deadline: float = DEADLINE) -> None:
        """Compile `source`, empty for a model that has none. Never fails: see `problem`."""
        self.source = source
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._sandbox = Sandbox(deadline=deadline)
        self._mutable = Sandbox(mutable=True, deadline=deadline)
        self._needs_mutable = False
        self._runs_away = False
        """A bound was passed while probing: every further question would take as long."""
        self.problem: GenerationFailed | None = None
        """Why the model's own template is not used, if it has one."""
        try:
            self._compiled = self._sandbox.load(source if source.strip() else PLAIN)
            self.present = bool(source.strip())
        except TemplateError as error:
            self.problem = GenerationFailed("engine.template_broken", reason=_reason(error))
            self._compiled = self._sandbox.load(PLAIN)
            self.present = False
        if not self.present:
            self.source = PLAIN

    @cached_property
    def markers(self) -> Markers:
        """What this template writes around thinking and tool calls (`probe.py`)."""
        return probe(self.source, self.try_render, present=self.present)

    @cached_property
    def facts(self) -> TemplateFacts:
        """What the template can do, for the faces."""
        markers = self.markers
        return TemplateFacts(
            present=self.present,
            digest=hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest(),
            system=markers.system,
            thinking=markers.thinking,
            tools=markers.tools,
            thinking_start=markers.thinking_start.strip(),
            thinking_end=markers.thinking_end.strip(),
        )

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings that the plain form needs; a real template's model ends by itself."""
        return () if self.present else PLAIN_STOPS

    def render(self, prompt: Messages) -> list[Segment]:
        """The prompt, in order; joined, the segments' texts are what the model reads.

        BOS is part of the text only if the template writes it.

        Raises:
            GenerationFailed: the template refused the conversation or cannot be rendered.
        """
        messages = list(prompt.messages)
        tools = list(prompt.tools)
        final = messages.pop() if prompt.continue_final and messages else None
        marks = self._marks(prompt)
        told = list(enumerate(messages))
        if not self.markers.tools and tools:
            told, tools = toolless.in_words(messages, tools), []
        shapes = [shape_of(message, index, marks, self.markers) for index, message in told]
        if not self.markers.system:
            shapes = without_system(shapes)
        values = {
            "messages": shapes,
            "tools": marks.hide_all(tools) or self._no_tools,
            **both_names(marks.hide_all(prompt.template_kwargs)),
        }
        try:
            text = self._render(values)
        except TemplateError as error:
            key = (
                "engine.template_refused"
                if isinstance(error, Refused)
                else ("engine.template_failed")
            )
            raise GenerationFailed(key, reason=marks.plain(_reason(error))) from error
        segments = self._segments(marks.read(text), len(messages))
        if final is not None:
            segments += self._prefill(final, segments, len(messages))
        return segments

    def try_render(self, values: Mapping[str, object]) -> str | None:
        """For the probe: the text for raw template values, or None if that fails."""
        if self._runs_away:
            return None
        try:
            return self._render(values)
        except OutOfBounds:
            self._runs_away = True
            return None
        except TemplateError:
            if "tools" not in values:
                return self.try_render({**values, "tools": []})
            return None

    def _render(self, values: Mapping[str, object]) -> str:
        given = {"add_generation_prompt": True, "tools": None, **self._tokens, **values}
        given.update(other_names(self.source, given))
        if not self._needs_mutable:
            try:
                return self._sandbox.render(self._compiled, given)
            except SecurityError:
                # Kimi's templates append to lists. Every value was made for this rendering, so
                # nothing of ours can be changed by it; begin again with fresh copies.
                given = json.loads(json.dumps(given))
        rendered = self._mutable.render(self._changeable, given)
        self._needs_mutable = True
        return rendered

    @cached_property
    def _no_tools(self) -> list[object] | None:
        """What says that there are none: some templates loop over them without asking."""
        if self._runs_away:
            return None
        question = {"messages": [{"role": "user", "content": "?"}]}
        try:
            self._render(question)
        except TemplateError:
            return [] if self.try_render({**question, "tools": []}) is not None else None
        return None

    @cached_property
    def _changeable(self) -> Template:
        return self._mutable.load(self.source)

    def _marks(self, prompt: Messages) -> Marks:
        try:
            return Marks((self.source, *texts_from_outside(prompt)))
        except ValueError as error:
            raise GenerationFailed("engine.template_failed", reason=str(error)) from error

    def _segments(self, pieces: Sequence[Piece], count: int) -> list[Segment]:
        """Segments with their messages.

        The template's words before a content open its message; those behind it close it as far as
        `markers.message_end` and `reply_start` tell.
        """
        reply = self.markers.reply_start
        pieces = _split_reply(list(pieces), reply)
        named = [
            place
            for place, piece in enumerate(pieces)
            if (piece.content or -1) >= 0 or piece.content == 0
        ]
        segments: list[Segment] = []
        current = 0
        last = named[-1] if named else -1
        for place, piece in enumerate(pieces):
            if piece.content is not None and piece.content >= 0:
                current = piece.content
                segments.append(Segment(piece.text, False, current))
            elif place == len(pieces) - 1 and reply and piece.text == reply and place > last:
                segments.append(Segment(piece.text, True, None))
            else:
                following = next((pieces[n].content for n in named if n > place), current)
                segments += self._between(piece, current if segments else following, following)
        return segments if count else [part._replace(message=None) for part in segments]

    def _between(self, piece: Piece, before: int | None, after: int | None) -> list[Segment]:
        """The template's words between two contents, shared between their messages."""
        if piece.content == -1:
            return [Segment(piece.text, False, before)]
        end = self.markers.message_end
        if before != after and end and piece.text.startswith(end) and len(piece.text) > len(end):
            return [Segment(end, True, before), Segment(piece.text[len(end) :], True, after)]
        return [Segment(piece.text, True, after)]

    def _prefill(
        self, final: ChatMessage, segments: Sequence[Segment], index: int
    ) -> list[Segment]:
        """What the reply begins with, in the form the model itself would have written it."""
        markers = self.markers
        prompt = "".join(segment.text for segment in segments[-4:])
        inside = markers.inside_thinking(prompt)
        parts: list[Segment] = []
        if final.thinking:
            if not inside:
                parts.append(Segment(markers.thinking_start, True, index))
            parts.append(Segment(final.thinking, False, index))
            inside = True
        if final.content:
            if inside:
                parts.append(Segment(markers.thinking_end, True, index))
            parts.append(
                Segment(markers.text_start if final.thinking else markers.text_alone, True, index)
            )
            parts.append(Segment(final.content, False, index))
        return [part for part in parts if part.text]


def _split_reply(pieces: list[Piece], reply: str) -> list[Piece]:
    """The pieces with what asks for the reply as a piece of its own."""
    if reply and pieces and pieces[-1].content is None and pieces[-1].text.endswith(reply):
        rest = pieces[-1].text[: -len(reply)]
        return [*pieces[:-1], *([Piece(rest, None)] if rest else []), Piece(reply, None)]
    return pieces


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
