"""A constraint for a model that thinks first: it holds for the answer, and thinking is free.

Owns the way to the answer: what the template opened, the marker that a model may begin with, the
header that some families write before an answer. A model that would end inside its thinking is made
to close it instead: who asks for JSON gets JSON. Refuses grammars; the one it wraps begins where
the answer does.
"""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from msgspec import Struct

from llmchat.engine.worker.capi import Floats
from llmchat.engine.worker.constraint.rule import Rule
from llmchat.engine.worker.sampling import Chain, candidates
from llmchat.engine.worker.vocab import Vocab

State = Literal["start", "thinking", "way", "answer"]
_TAIL: Final = 64
"""Bytes past the end marker's length that are kept while looking for it."""


class Way(Struct, frozen=True, kw_only=True):
    """How a reply gets to its answer, as token ids where it must be written."""

    inside: bool = False
    """The prompt ends inside thinking."""
    start: tuple[int, ...] = ()
    """What begins thinking, where the model may; empty: it may not."""
    end: str = ""
    """What ends thinking."""
    end_tokens: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    """What comes between thinking and the answer."""
    alone: tuple[int, ...] = ()
    """What comes before an answer without thinking."""


class AfterThinking:
    """A rule (`rule.Rule`) that lets a model think, then hands over to another."""

    def __init__(self, vocab: Vocab, inner: Rule, way: Way) -> None:
        self._vocab = vocab
        self._inner = inner
        self._way = way
        self._state: State = "thinking" if way.inside else "start"
        self._begun: list[int] = []
        """Tokens of the start or of the way so far."""
        self._due: tuple[int, ...] = ()
        """Tokens that must come now."""
        self._tail = b""

    @property
    def complete(self) -> bool:
        """Nothing may follow the answer."""
        return self._state == "answer" and self._inner.complete

    def sample(self, chain: Chain, logits: Floats) -> int | None:
        """The next token: a marker's, free thinking, or the inner rule's."""
        if self._state == "answer":
            return self._inner.sample(chain, logits)
        if self._state == "way":
            return self._accepted(chain, self._due[0])
        token = chain.pick(candidates(logits))
        if self._state == "thinking":
            return self._accepted(chain, self._thought(chain, logits, token))
        return self._first(chain, logits, token)

    def force(self, token: int) -> bool:
        """Go on over a token that was not sampled."""
        if self._state == "start" and token not in self._openings():
            self._enter_answer()
        if self._state == "answer":
            return self._inner.force(token)
        if self._state == "way" and token != self._due[0]:
            return False
        return self._advance(token)

    def close(self) -> None:
        """Free the inner rule."""
        self._inner.close()

    # before the answer

    def _first(self, chain: Chain, logits: Floats, token: int) -> int | None:
        """Where thinking may begin: what the model would write anyway, if it is a beginning."""
        openings = self._openings()
        if token not in openings:
            if not self._begun and not self._way.alone:
                self._enter_answer()
                return self._inner.sample(chain, logits)
            token = _likeliest(openings, logits)
        return self._accepted(chain, token)

    def _openings(self) -> list[int]:
        """Tokens that go on from what has begun."""
        n = len(self._begun)
        return [
            form[n]
            for form in (self._way.start, self._way.alone)
            if len(form) > n and list(form[:n]) == self._begun
        ]

    def _thought(self, chain: Chain, logits: Floats, token: int) -> int:
        """A token of thinking; one that would end the reply, or spoil the answer, is replaced."""
        if token in self._vocab.ends or self._leftover(token).strip():
            self._due = (*self._way.end_tokens, *self._way.after)
            self._state = "way"
            return self._due[0]
        return token

    def _leftover(self, token: int) -> bytes:
        """What a token writes behind the end marker; nothing before that is complete."""
        tail = self._tail + self._vocab.piece(token)
        _, found, rest = tail.partition(self._way.end.encode())
        return rest if found else b""

    def _accepted(self, chain: Chain, token: int) -> int:
        chain.accept(token)
        self._advance(token)
        return token

    def _advance(self, token: int) -> bool:
        if self._state == "start":
            self._begun.append(token)
            if tuple(self._begun) == self._way.start:
                self._state = "thinking"
            elif tuple(self._begun) == self._way.alone:
                self._enter_answer()
        elif self._state == "way":
            self._due = self._due[1:]
            if not self._due:
                self._enter_answer()
        else:
            self._tail = (self._tail + self._vocab.piece(token))[-len(self._way.end) * 4 - _TAIL :]
            if self._way.end.encode() in self._tail:
                self._due = self._way.after
                self._state = "way" if self._due else "answer"
        return True

    def _enter_answer(self) -> None:
        self._state = "answer"
        self._tail = b""


def _likeliest(tokens: Sequence[int], logits: Floats) -> int:
    return int(tokens[int(np.argmax(logits[np.asarray(tokens)]))])
