"""From texts to the token ids that a model of vectors reads, held to what fits."""

from collections.abc import Sequence
from typing import Final

from llama_cpp import llama_cpp as lib

from llmchat.engine.protocol import Embed, Rerank
from llmchat.engine.worker.capi import Pointer
from llmchat.engine.worker.vocab import Vocab
from llmchat.errors import GenerationFailed

WPM: Final = int(lib.LLAMA_VOCAB_TYPE_WPM)
MOST: Final = 65_536
"""Texts of one request: their vectors must fit into one frame."""


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
            GenerationFailed: a text is too long (and is not to be cut), or there are too many.
        """
        self._count(len(work.texts))
        rows = [self._vocab.tokenize(text, add_special=True) for text in work.texts]
        return [
            self._fit(row, number, truncate=work.truncate)
            for number, row in enumerate(rows, work.first)
        ]

    def rerank(self, work: Rerank) -> list[list[int]]:
        """One sequence a document: the model's `rerank` template, or query and document apart.

        `[BOS] query [EOS] [SEP] document [EOS]`, each where the vocabulary has it, as llama.cpp's
        server does; WordPiece's is BERT's own `[CLS] query [SEP] document [SEP]`.

        Raises:
            GenerationFailed: a pair is too long (and is not to be cut), or there are too many.
        """
        self._count(len(work.documents))
        query = self._vocab.tokenize(work.query)
        rows = []
        for number, document in enumerate(work.documents, 1):
            if self._template:
                row, cut = self._filled(work.query, document), None
            else:
                row, cut = self._pair(query, self._vocab.tokenize(document))
            row = self._fit(row, number, truncate=work.truncate, keep_last=cut)
            rows.append(row)
        return rows

    def _filled(self, query: str, document: str) -> list[int]:
        """The template with both texts in it; neither can become a special token."""
        tokens: list[int] = []
        rest = self._template
        while rest:
            places = {name: rest.find(name) for name in ("{query}", "{document}") if name in rest}
            name = min(places, key=lambda found: places[found], default="")
            before, _, rest = rest.partition(name) if name else (rest, "", "")
            tokens += self._vocab.tokenize(before, special=True, add_special=not tokens)
            if name:
                tokens += self._vocab.tokenize_inside(query if name == "{query}" else document)
        return tokens

    def _pair(self, query: Sequence[int], document: Sequence[int]) -> tuple[list[int], int]:
        """The tokens of a pair, and how many at its end a cut must keep."""
        vocab = self._vocab.pointer
        sep = int(lib.llama_vocab_sep(vocab))
        eos = self._vocab.eos if self._vocab.eos >= 0 else sep
        bos = [self._vocab.bos] if self._vocab.adds_bos and self._vocab.bos >= 0 else []
        end = [eos] if lib.llama_vocab_get_add_eos(vocab) and eos >= 0 else []
        between = [sep] if lib.llama_vocab_get_add_sep(vocab) and sep >= 0 else []
        if self._vocab.kind == WPM:
            return [*bos, *query, sep, *document, sep], 1
        return [*bos, *query, *end, *between, *document, *end], len(end)

    def _fit(
        self, row: list[int], number: int, *, truncate: bool, keep_last: int | None = None
    ) -> list[int]:
        """A sequence that fits: cut before its closing tokens, if it may be.

        Raises:
            GenerationFailed: with its place, its tokens and the limit.
        """
        if len(row) <= self._limit:
            return row
        if not truncate:
            raise GenerationFailed(
                "engine.text_too_long", number=number, tokens=len(row), limit=self._limit
            )
        closing = int(row[-1] in self._vocab.controls) if keep_last is None else keep_last
        return row[: self._limit - closing] + row[len(row) - closing :]

    @staticmethod
    def _count(n: int) -> None:
        if not 1 <= n <= MOST:
            raise GenerationFailed("engine.bad_texts", n=n, most=MOST)
