"""A reply's text on its way out: bytes of tokens in, deltas for the client out.

Owns stop strings, the parser, and when text is made. A token's bytes wait up to 50 ms for those of
the next ones: what is done for a piece of text is then done once for several tokens, and a reader
sees no difference. The first piece, and what somebody asked to know token by token, waits for
nothing. Refuses which tokens are shown (`choosing.py`) and when a reply is over (`reply.py`).
"""

import math
from collections.abc import Sequence
from typing import Final, Protocol

from llmchat.engine.backend import Emit
from llmchat.engine.protocol import Delta, DeltaKind, TokenInfo
from llmchat.engine.worker.vocab import TextStream
from llmchat.values import ToolCall

PACE: Final = 0.05
"""Seconds that a token's text may wait for the next token, after text was made."""


class Parser(Protocol):
    """Sorts a reply's text into text, thinking and tool calls; `chat.parse.ReplyParser` is one."""

    def feed(self, text: str) -> Sequence[tuple[DeltaKind, str]]:
        """(kind, text) of what is certain now."""
        ...

    def end(self) -> Sequence[tuple[DeltaKind, str]]:
        """What was held back."""
        ...

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that were complete."""
        ...

    @property
    def verbatim(self) -> bool:
        """Control tokens, too, are part of what comes now: it is inside a call."""
        ...


class PlainParser:
    """Everything is text: raw prompts, and models without a template."""

    tool_calls: tuple[ToolCall, ...] = ()
    verbatim = False

    def feed(self, text: str) -> Sequence[tuple[DeltaKind, str]]:
        """The text itself."""
        return (("text", text),) if text else ()

    def end(self) -> Sequence[tuple[DeltaKind, str]]:
        """Nothing is held back."""
        return ()


class ReplyText:
    """The text of one choice of a request."""

    def __init__(
        self, request: int, choice: int, emit: Emit, parser: Parser, stop: Sequence[str]
    ) -> None:
        """`stop`: strings that end the reply; with one, every token's text is looked at."""
        self._request = request
        self._choice = choice
        self._emit = emit
        self._parser = parser
        self._stream = TextStream(stop)
        self._pace = 0.0 if any(stop) else PACE
        self._waiting: list[bytes] = []
        self._made = -math.inf
        """When text was last made, by the clock of `add`."""

    @property
    def stopped(self) -> bool:
        """A stop string is complete."""
        return self._stream.stopped

    @property
    def verbatim(self) -> bool:
        """Control tokens that come now are part of a call."""
        self.catch_up()
        return self._parser.verbatim

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that were complete."""
        return self._parser.tool_calls

    def add(self, piece: bytes, info: tuple[TokenInfo, ...], now: float) -> None:
        """A token's bytes, and what was asked about it; `now` in seconds."""
        self._waiting.append(piece)
        if info or now - self._made >= self._pace:
            self._made = now
            self.catch_up(info)

    def catch_up(self, info: tuple[TokenInfo, ...] = ()) -> None:
        """Send what waits: nothing may join it soon."""
        waiting = self._waiting
        if waiting:
            piece = waiting[0] if len(waiting) == 1 else b"".join(waiting)
            waiting.clear()
            self._send(self._parser.feed(self._stream.feed(piece)), info)

    def end(self, *, whole: bool) -> None:
        """Send what was held back. `whole`: half a character at the end is a broken one."""
        self.catch_up()
        self._send(self._parser.feed(self._stream.end(whole=whole)), ())
        self._send(self._parser.end(), ())

    def _send(self, parts: Sequence[tuple[DeltaKind, str]], info: tuple[TokenInfo, ...]) -> None:
        for kind, text in parts:
            if text or info:
                self._emit(
                    Delta(id=self._request, choice=self._choice, kind=kind, text=text, tokens=info)
                )
                info = ()
        if info:  # a token whose character is not whole yet
            self._emit(Delta(id=self._request, choice=self._choice, tokens=info))
