"""What else the model might have said: probabilities before and after the samplers.

Owns `top_logprobs`. Costs nothing when off; with it about 0.3 ms a token at 49k tokens, since only
the top of one row is ordered (argpartition), never the whole vocabulary.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from llmchat.engine.protocol import Rival, TokenInfo
from llmchat.engine.worker.capi import Context, Floats
from llmchat.engine.worker.sampling import Chain, candidates
from llmchat.engine.worker.vocab import Vocab

MOST: Final = 64
"""Rivals that one request may ask for."""


def sample_with_rivals(chain: Chain, context: Context, row: int, k: int) -> TokenInfo:
    """Choose a row's next token, with its `k` likeliest rivals. The chain remembers it."""
    logits = context.logits(row)
    if chain.plain:
        token = chain.sample(context, row)
        return describe(chain.vocab, logits, token, k, {token: 0.0})
    token, kept = _run(chain, logits)
    chain.accept(token)
    return describe(chain.vocab, logits, token, k, kept)


def describe(
    vocab: Vocab, logits: Floats, token: int, k: int, kept: Mapping[int, float]
) -> TokenInfo:
    """A chosen token and the `k` likeliest; `kept` are log probabilities after the samplers."""
    total = _log_sum(logits)
    k = min(k, MOST, logits.size)
    top = np.argpartition(logits, -k)[-k:] if k else np.empty(0, np.int64)
    order = top[np.argsort(-logits[top], kind="stable")]
    rivals = tuple(
        Rival(
            int(rival),
            vocab.piece(int(rival)),
            float(logits[rival]) - total,
            kept.get(int(rival)),
        )
        for rival in order
    )
    return TokenInfo(token, float(logits[token]) - total, kept.get(token), rivals)


def _log_sum(logits: Floats) -> float:
    """log(sum(exp(x))), shifted by the largest so that nothing overflows."""
    largest = float(logits.max())
    return largest + float(np.log(np.exp(logits - largest, dtype=np.float64).sum()))


def _run(chain: Chain, logits: Floats) -> tuple[int, dict[int, float]]:
    """The chosen token, and the log probability of each likely token that the samplers left."""
    token, left = chain.apply(candidates(logits))
    alive = left[np.isfinite(left["logit"])]
    total = _log_sum(alive["logit"])
    head = alive[np.argsort(-alive["logit"], kind="stable")[: MOST * 4]]
    chosen = alive[alive["id"] == token]
    return token, {
        int(row["id"]): float(row["logit"]) - total for row in np.concatenate([head, chosen])
    }
