"""Tokens and text: the piece table, tokenizing, and streams of whole characters.

Owns that a message's content never becomes a control token, that a piece of any length is whole
(llama_cpp's 32-byte buffer loses long ones), and that a stop string never leaks. Refuses templates.
"""

import codecs
import ctypes
import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Final

from llama_cpp import llama_cpp as lib

from llmchat.engine.worker.capi import CApiError, Pointer

MAX_TEXT: Final = 32 * 1024 * 1024
"""Bytes of text that one call tokenizes at most."""
SPM: Final = 1
"""LLAMA_VOCAB_TYPE_SPM: puts a space before every text it is given."""


class Vocab:
    """A model's vocabulary. `piece` is a table look-up."""

    def __init__(self, model: Pointer) -> None:
        self.pointer = lib.llama_model_get_vocab(model)
        if not self.pointer:
            raise CApiError("the model has no vocabulary")
        self.size = int(lib.llama_vocab_n_tokens(self.pointer))
        self.bos = int(lib.llama_vocab_bos(self.pointer))
        self.eos = int(lib.llama_vocab_eos(self.pointer))
        self.kind = int(lib.llama_vocab_type(self.pointer))
        self.adds_bos = bool(lib.llama_vocab_get_add_bos(self.pointer))
        self._buffer = ctypes.create_string_buffer(512)
        self._pieces: list[bytes | None] = [None] * self.size

    def piece(self, token: int) -> bytes:
        """A token's bytes; control tokens as their text."""
        known = self._pieces[token] if 0 <= token < self.size else b""
        if known is None:
            known = self._pieces[token] = self._read_piece(token)
        return known

    def _read_piece(self, token: int) -> bytes:
        size = lib.llama_token_to_piece(
            self.pointer, token, self._buffer, len(self._buffer), 0, True
        )
        if size < 0:
            self._buffer = ctypes.create_string_buffer(-size)
            size = lib.llama_token_to_piece(self.pointer, token, self._buffer, -size, 0, True)
        return self._buffer.raw[: max(0, size)]

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end a reply."""
        is_eog, vocab = lib.llama_vocab_is_eog, self.pointer
        return frozenset(token for token in range(self.size) if is_eog(vocab, token))

    @cached_property
    def controls(self) -> frozenset[int]:
        """Tokens that are signs to the program, not text."""
        is_control, vocab = lib.llama_vocab_is_control, self.pointer
        return frozenset(token for token in range(self.size) if is_control(vocab, token))

    @cached_property
    def control_texts(self) -> tuple[str, ...]:
        """The texts of all control tokens, in their order."""
        return tuple(
            self.piece(token).decode("utf-8", "replace") for token in sorted(self.controls)
        )

    @cached_property
    def digest(self) -> str:
        """A hash of every token's text: token ids mean the same where it is the same."""
        whole = hashlib.sha256()
        text_of, vocab = lib.llama_vocab_get_text, self.pointer
        for token in range(self.size):
            whole.update(text_of(vocab, token) or b"")
            whole.update(b"\0")
        return whole.hexdigest()[:16]

    def text(self, tokens: Sequence[int], *, whole: bool = True) -> str:
        """The text of tokens, broken characters replaced.

        Not `whole`: half a character at the end is left out.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return decoder.decode(b"".join(map(self.piece, tokens)), whole)

    def tokenize(self, text: str, *, special: bool = False, add_special: bool = False) -> list[int]:
        """Token ids of `text`; `special` reads control tokens, `add_special` adds BOS and so on.

        Raises:
            CApiError: the text is longer than MAX_TEXT, or llama.cpp cannot tokenize.
        """
        data = text.encode("utf-8", "replace")
        if len(data) > MAX_TEXT:
            raise CApiError(f"a text of {len(data)} bytes")
        if not data and not add_special:
            return []
        room = len(data) + 8
        for _ in range(2):
            found = (ctypes.c_int32 * room)()
            count = lib.llama_tokenize(
                self.pointer, data, len(data), found, room, add_special, special
            )
            if count >= 0:
                return list(found[:count])
            room = -count
        raise CApiError("llama.cpp cannot tokenize this text")

    def tokenize_inside(self, text: str) -> list[int]:
        """Tokens of a text that follows other text, not a control token.

        SPM vocabularies put a space before each text; a newline in front takes it instead.
        """
        if self.kind != SPM or not text:
            return self.tokenize(text)
        lead = self.tokenize("\n")
        tokens = self.tokenize("\n" + text)
        return tokens[len(lead) :] if tokens[: len(lead)] == lead else self.tokenize(text)


class TextStream:
    """Pieces in, whole characters out, with the beginnings of stop strings held back."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(word for word in stop if word)
        self._longest = max(map(len, self._stop), default=0)
        self._starts = frozenset(word[0] for word in self._stop)
        self._held = ""
        self.stopped = False

    def feed(self, piece: bytes) -> str:
        """The text that may be shown now. Sets `stopped` when a stop string is complete."""
        text = self._decoder.decode(piece)
        if not self._held and self._starts.isdisjoint(text):
            return text
        self._held += text
        found = min((at for at in map(self._held.find, self._stop) if at >= 0), default=-1)
        if found >= 0:
            self.stopped = True
            text, self._held = self._held[:found], ""
            return text
        keep = self._beginning()
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text

    def _beginning(self) -> int:
        """How many last characters might be the beginning of a stop string."""
        for size in range(min(self._longest - 1, len(self._held)), 0, -1):
            tail = self._held[-size:]
            if any(word.startswith(tail) for word in self._stop):
                return size
        return 0

    def end(self, *, whole: bool = True) -> str:
        """What was held back; nothing after a stop string.

        `whole`: the bytes are all there are, so half a character at the end is a broken one; else
        it was cut off, and is left out.
        """
        if self.stopped:
            return ""
        text, self._held = self._held + self._decoder.decode(b"", whole), ""
        return text
