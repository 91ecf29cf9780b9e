"""A user's GBNF grammar, natively: sample first, check, resample only when refused.

0.24 ms a token this way; masking the whole vocabulary first costs 9 to 28 ms. Owns every rule
around llama.cpp's grammars whose breach ends the process: NULL for a text that does not parse, a
token that was not checked, nesting that overflows the parser's stack.
"""

import ctypes
from typing import Final

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from llmchat.engine.worker.capi import Floats, Pointer
from llmchat.engine.worker.constraint.faults import bad
from llmchat.engine.worker.sampling import CANDIDATE, Chain, candidates
from llmchat.engine.worker.vocab import Vocab

LONGEST: Final = 256 * 1024
DEEPEST: Final = 200
"""Brackets inside brackets: the parser recurses."""
REPETITIONS: Final = 2000
RULES: Final = 2000
"""Rules inside rules: it follows them by recursion."""


class Grammar:
    """A rule (`rule.Rule`) over llama.cpp's own grammar sampler. `close` frees it."""

    complete = False
    """llama.cpp does not say; the next step finds that only an end is allowed."""

    def __init__(self, vocab: Vocab, pointer: Pointer) -> None:
        self._vocab = vocab
        self.pointer = pointer

    @classmethod
    def parse(cls, vocab: Vocab, text: str) -> "Grammar":
        """Parse `text`, whose first rule must be named `root`. On any thread.

        Raises:
            GenerationFailed: it is no grammar, or one that llama.cpp would not survive.
        """
        _check(text)
        pointer = lib.llama_sampler_init_grammar(
            vocab.pointer, text.encode("utf-8", "replace"), b"root"
        )
        if not pointer:
            raise bad("grammar_unparsed")
        return cls(vocab, pointer)

    def fork(self) -> "Grammar":
        """Another reply at the same place.

        Raises:
            GenerationFailed: llama.cpp made no copy.
        """
        pointer = lib.llama_sampler_clone(self.pointer)
        if not pointer:
            raise bad("grammar_unparsed")
        return Grammar(self._vocab, pointer)

    def sample(self, chain: Chain, logits: Floats) -> int | None:
        """The next token, which both then remember. None: the grammar allows nothing more."""
        token = chain.pick(candidates(logits))
        if not self._allows(token):
            rows = candidates(logits)
            self._apply(rows)
            rows = rows[np.isfinite(rows["logit"])]
            if not rows.size:
                return None
            token = chain.pick(rows.copy())
        if token not in self._vocab.ends:
            lib.llama_sampler_accept(self.pointer, token)
        chain.accept(token)
        return token

    def force(self, token: int) -> bool:
        """Go on over a token that was not sampled. False: the grammar refuses it."""
        if not self._allows(token):
            return False
        lib.llama_sampler_accept(self.pointer, token)
        return True

    def _allows(self, token: int) -> bool:
        row = np.array([(token, 1.0, 0.0)], CANDIDATE)
        self._apply(row)
        return bool(np.isfinite(row["logit"][0]))

    def _apply(self, rows: npt.NDArray[np.void]) -> None:
        """Refused tokens get a logit of -inf."""
        data = ctypes.cast(rows.ctypes.data, ctypes.POINTER(lib.llama_token_data))
        array = lib.llama_token_data_array(data, rows.size, -1, False)
        lib.llama_sampler_apply(self.pointer, ctypes.byref(array))

    def close(self) -> None:
        """Free it."""
        if self.pointer:
            lib.llama_sampler_free(self.pointer)
            self.pointer = None


def _check(text: str) -> None:
    if not text.strip():
        raise bad("grammar_empty")
    if len(text) > LONGEST:
        raise bad("grammar_long", most=LONGEST)
    if "\0" in text:
        raise bad("grammar_not_text")
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise bad("grammar_deep")
    if text.count("::=") > RULES:
        raise bad("grammar_rules", most=RULES)
    for piece in text.replace(",", "{").split("{")[1:]:
        number = piece.split("}")[0].strip()
        if number.isdigit() and int(number[:9]) > REPETITIONS:
            raise bad("grammar_repeats", most=REPETITIONS)
