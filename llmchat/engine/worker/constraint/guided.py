"""JSON schemas, regexes and Lark grammars, through llguidance.

Owns llguidance: a tokenizer for each model, matchers with limits, and the mask of a step turned
into candidates for the sampler chain, so that top-k and the rest weigh only what is allowed. A mask
costs 0.01 to 0.15 ms at 49k tokens. Refuses threads (`preparing.py`).
"""

import ctypes
from typing import Final

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib
from llguidance import LLMatcher, LLTokenizer

from llmchat.engine.protocol import Constraint
from llmchat.engine.worker.capi import Floats
from llmchat.engine.worker.constraint import trial
from llmchat.engine.worker.constraint.faults import bad, llguidance_fault
from llmchat.engine.worker.sampling import CANDIDATE, Chain
from llmchat.engine.worker.vocab import Vocab

_SPECIAL: Final = b"\xff"
"""Before a token's text: llguidance gives it only to a Lark grammar that names it."""


def make_tokenizer(vocab: Vocab) -> LLTokenizer:
    """What llguidance knows of a vocabulary: 0.3 s of CPU time at 49k tokens. On any thread."""
    ends = sorted(vocab.ends, key=lambda token: token != vocab.eos)
    made: LLTokenizer = LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]  # not in its stub
        tokens=_pieces(vocab),
        vocab_ptr=vocab.pointer,
        tokenize_fptr=ctypes.cast(lib._lib.llama_tokenize, ctypes.c_void_p).value,
        eos_token=ends or [max(0, vocab.eos)],
        slices=None,
    )
    return made


def _pieces(vocab: Vocab) -> list[bytes]:
    """Every token's bytes, special ones marked; with a buffer of its own, for its own thread."""
    buffer = ctypes.create_string_buffer(1024)
    pieces = []
    for token in range(vocab.size):
        size = lib.llama_token_to_piece(vocab.pointer, token, buffer, len(buffer), 0, True)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = lib.llama_token_to_piece(vocab.pointer, token, buffer, -size, 0, True)
        piece = buffer.raw[: max(0, size)]
        special = _is_special(vocab, token, piece)
        pieces.append(_SPECIAL + piece if special else piece)
    return pieces


def _is_special(vocab: Vocab, token: int, piece: bytes) -> bool:
    """A control token, or one that a user defined to look like one."""
    attributes = lib.llama_vocab_get_attr(vocab.pointer, token)
    if attributes & (lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN):
        return True
    defined = bool(attributes & lib.LLAMA_TOKEN_ATTR_USER_DEFINED)
    return defined and piece.startswith(b"<") and piece.endswith(b">")


class Guide:
    """A compiled constraint at its beginning; every reply gets a fork."""

    def __init__(self, tokenizer: LLTokenizer, vocab: Vocab, constraint: Constraint) -> None:
        """Compile. On any thread; llguidance gives up the GIL.

        Raises:
            GenerationFailed: what it cannot understand or obey, or a grammar that allows nothing.
        """
        self._vocab = vocab
        self._places = constraint.kind == "lark"
        self._matcher = LLMatcher(
            tokenizer,
            _grammar(constraint),
            log_level=0,
            limits=trial.limits(),
        )
        mask = np.zeros(_words(vocab), np.uint32)
        if not self._matcher.is_error():  # some faults show only when the first token is asked for
            self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            raise llguidance_fault(self._matcher.get_error(), places=self._places)
        if not mask.any():
            raise bad("grammar_allows_nothing")

    def fork(self) -> "Guided":
        """A reply's own."""
        return Guided(self._matcher.deep_copy(), self._vocab, places=self._places)


def _grammar(constraint: Constraint) -> str:
    """A constraint in the form that llguidance takes.

    Raises:
        GenerationFailed: no JSON, or empty.
    """
    text = constraint.text.encode("utf-8", "replace").decode()
    if not text.strip():
        raise bad("grammar_empty")
    try:
        return trial.grammar(constraint.kind, text)
    except ValueError as error:
        raise llguidance_fault(str(error), places=False) from error


class Guided:
    """A rule (`rule.Rule`) over an llguidance matcher."""

    def __init__(self, matcher: LLMatcher, vocab: Vocab, *, places: bool) -> None:
        self._matcher = matcher
        self._vocab = vocab
        self._places = places
        self._mask = np.zeros(_words(vocab), np.uint32)

    @property
    def complete(self) -> bool:
        """Nothing may follow."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def sample(self, chain: Chain, logits: Floats) -> int | None:
        """The next token among those that are allowed."""
        if self.complete:
            return None
        allowed = self._allowed(chain)
        if not allowed.size:
            return None
        if allowed.size == 1:
            token = int(allowed[0])
        elif chain.plain:
            token = int(allowed[logits[allowed].argmax()])
        else:
            token = chain.pick(_rows(allowed, logits))
        chain.accept(token)
        if token not in self._vocab.ends:
            self._matcher.consume_token(token)
            self._check()
        return token

    def force(self, token: int) -> bool:
        """Go on over a token that was not sampled."""
        return bool(self._matcher.validate_tokens([token])) and self._matcher.consume_token(token)

    def close(self) -> None:
        """Nothing is held that the collector does not free."""

    def _allowed(self, chain: Chain) -> npt.NDArray[np.intp]:
        """Ids of the tokens that may come next, those the chain forbids left out."""
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little")[: self._vocab.size]
        bits[chain.dead] = 0
        return np.flatnonzero(bits)

    def _check(self) -> None:
        if self._matcher.is_error():
            raise llguidance_fault(self._matcher.get_error(), places=self._places)


def _rows(tokens: npt.NDArray[np.intp], logits: Floats) -> npt.NDArray[np.void]:
    rows = np.zeros(tokens.size, CANDIDATE)
    rows["id"] = tokens
    rows["logit"] = logits[tokens]
    return rows


def _words(vocab: Vocab) -> int:
    """32-bit words of a mask with one bit for each token."""
    return (vocab.size + 31) // 32
