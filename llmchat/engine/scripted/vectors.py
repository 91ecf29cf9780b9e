"""Vectors and scores without a model: always the same for the same words, alike for alike texts."""

import math
import struct
import zlib
from operator import mul
from typing import Final

from llmchat.engine.protocol import Embed, Embedded, Rerank, Reranked

N_EMBD: Final = 16
"""Numbers of a vector."""


def answer(work: Embed | Rerank) -> Embedded | Reranked:
    """What an embedding model or a reranker would answer."""
    if isinstance(work, Embed):
        packed = tuple(struct.pack(f"<{N_EMBD}f", *vector(text)) for text in work.texts)
        tokens = sum(len(text.split()) for text in work.texts)
        return Embedded(id=work.id, vectors=packed, tokens=tokens)
    asked = vector(work.query)
    scores = tuple(sum(map(mul, asked, vector(text))) for text in work.documents)
    return Reranked(id=work.id, scores=scores, tokens=len(scores))


def vector(text: str) -> list[float]:
    """A direction for each word, added up, of length 1."""
    total = [0.0] * N_EMBD
    for word in text.lower().split():
        total[zlib.crc32(word.encode(errors="replace")) % N_EMBD] += 1.0
    length = math.hypot(*total)
    return [value / length for value in total] if length else total
