"""From texts to the token ids that a model of vectors reads, held to what fits.

Owns how a reranker is shown a pair, and what of a text may be cut. Refuses computing.
"""

import re
from itertools import chain
from typing import Final, NamedTuple

from llama_cpp import llama_cpp as lib

from llmchat.engine.protocol import Embed, Rerank
from llmchat.engine.worker.capi import Pointer
from llmchat.engine.worker.chat.segments import Segment
from llmchat.engine.worker.prompts import read_segments
from llmchat.engine.worker.vocab import Vocab
from llmchat.errors import GenerationFailed

WPM: Final = int(lib.LLAMA_VOCAB_TYPE_WPM)
MOST: Final = 65_536
"""Texts of one request: their vectors must fit into one frame."""
_PLACES: Final = re.compile(r"\{(query|document)\}")


class Pair(NamedTuple):
    """A query and a document as a reranker reads them."""

    whole: list[int]
    cuttable: list[int]
    """From the beginning to the document's end: what a cut shortens."""
    least: int
    """How many of those come before the document, and are never cut."""
    closing: list[int]
    """What comes after the document; a score is made of it, so that it is never cut."""


class Reader:
    """Reads the texts of requests. `limit`: tokens of one sequence."""

    def __init__(self, model: Pointer, vocab: Vocab, limit: int) -> None:
        self._vocab = vocab
        self._limit = limit
        template = lib.llama_model_chat_template(model, b"rerank")
        self._template = template.decode("utf-8", "replace") if template else ""

    def embed(self, work: Embed) -> list[list[int]]:
        """One sequence a text, with the special tokens that its vocabulary wants around.

        Raises:
            GenerationFailed: a text is empty or too long (and is not to be cut), or there are too
                many.
        """
        self._count(len(work.texts))
        rows = [self._vocab.tokenize(text, add_special=True) for text in work.texts]
        return [
            self._fit(row, number, truncate=work.truncate)
            for number, row in enumerate(rows, work.first)
        ]

    def rerank(self, work: Rerank) -> list[list[int]]:
        """One sequence a document: the model's `rerank` template, or query and document apart.

        Raises:
            GenerationFailed: a pair is empty or too long (and is not to be cut), or there are too
                many.
        """
        self._count(len(work.documents))
        read = self._filled if self._template else self._apart
        return [
            self._fit_pair(read(work.query, document), number, truncate=work.truncate)
            for number, document in enumerate(work.documents, 1)
        ]

    def _filled(self, query: str, document: str) -> Pair:
        """The template with both texts in it; neither can become a special token.

        Read in one piece, as llama.cpp's server does: a tokenizer joins a word with the space
        before it. Nothing is added around: the template says all.
        """
        before, there, after = self._template.partition("{document}")
        texts = {"query": query, "document": document}
        opening, closing = _segments(before, texts), _segments(after, texts)
        middle = [Segment(document, False, None)] if there else []
        whole = read_segments(self._vocab, chain(opening, middle, closing))
        if len(whole) <= self._limit:
            return Pair(whole, [], 0, [])
        head = read_segments(self._vocab, chain(opening, middle))
        least = len(read_segments(self._vocab, opening))
        return Pair(whole, head, least, read_segments(self._vocab, closing, head))

    def _apart(self, query: str, document: str) -> Pair:
        """`[BOS] query [EOS] [SEP] document [EOS]`, each where the vocabulary has it.

        So does llama.cpp's server; WordPiece's is BERT's own `[CLS] query [SEP] document [SEP]`.
        """
        vocab = self._vocab.pointer
        sep = int(lib.llama_vocab_sep(vocab))
        eos = self._vocab.eos if self._vocab.eos >= 0 else sep
        begin = [self._vocab.bos] if self._vocab.adds_bos and self._vocab.bos >= 0 else []
        end = [eos] if lib.llama_vocab_get_add_eos(vocab) and eos >= 0 else []
        between = [sep] if lib.llama_vocab_get_add_sep(vocab) and sep >= 0 else []
        if self._vocab.kind == WPM:
            end, between = [sep], []
        opening = [*begin, *self._vocab.tokenize(query), *end, *between]
        head = [*opening, *self._vocab.tokenize(document)]
        return Pair([*head, *end], head, len(opening), end)

    def _fit(self, row: list[int], number: int, *, truncate: bool) -> list[int]:
        """A sequence that fits: cut before its closing token, if it may be.

        Raises:
            GenerationFailed: with its place, its tokens and the limit; or that nothing is in it.
        """
        if not row:
            raise GenerationFailed("engine.empty_text", number=number)
        if len(row) <= self._limit:
            return row
        if not truncate:
            raise self._too_long(row, number)
        closing = int(row[-1] in self._vocab.controls)
        return row[: self._limit - closing] + row[len(row) - closing :]

    def _fit_pair(self, pair: Pair, number: int, *, truncate: bool) -> list[int]:
        """A pair that fits: cut in the document, if it may be and that is enough.

        Raises:
            GenerationFailed: as `_fit`.
        """
        room = self._limit - len(pair.closing)
        if len(pair.whole) <= self._limit or not truncate:
            return self._fit(pair.whole, number, truncate=False)
        if room <= pair.least:
            raise self._too_long(pair.whole, number)
        return pair.cuttable[:room] + pair.closing

    def _too_long(self, row: list[int], number: int) -> GenerationFailed:
        return GenerationFailed(
            "engine.text_too_long", number=number, tokens=len(row), limit=self._limit
        )

    @staticmethod
    def _count(n: int) -> None:
        if not 1 <= n <= MOST:
            raise GenerationFailed("engine.bad_texts", n=n, most=MOST)


def _segments(template: str, texts: dict[str, str]) -> list[Segment]:
    """A template's words and what stands in its places, apart."""
    parts = _PLACES.split(template)
    return [
        Segment(texts[part] if odd else part, not odd, None)
        for odd, part in ((number % 2, part) for number, part in enumerate(parts))
        if part
    ]
