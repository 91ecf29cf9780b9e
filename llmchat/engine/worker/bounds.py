"""Load settings within bounds: what would abort, hang or be misread inside llama.cpp is refused.

Its own checks come late or not at all: a context is cut to 32 bits, and more threads than the
machine has spin against each other until nothing moves. What is merely more than can be used is
lowered to what can.
"""

import math
from typing import Final

from msgspec.structs import replace

from llmchat.engine.worker.cores import logical_cores
from llmchat.errors import EngineError
from llmchat.values import Wants

MOST_CTX: Final = 1 << 24
"""Tokens: sixteen times the longest context that any model was trained for."""
MOST_BATCH: Final = 1 << 16
MOST_LAYERS: Final = 1024


def bounded(wants: Wants) -> Wants:
    """The same wants, as far as a machine can follow them.

    Raises:
        EngineError: a value that means nothing, with its name.
    """
    _check("n_ctx", wants.n_ctx, 1, MOST_CTX)
    _check("n_batch", wants.n_batch, 1, MOST_BATCH)
    _check("n_ubatch", wants.n_ubatch, 1, MOST_BATCH)
    _check("n_threads", wants.n_threads, 1, math.inf)
    _check("n_cpu_moe", wants.n_cpu_moe, 0, math.inf)
    _check("main_gpu", wants.main_gpu, 0, MOST_LAYERS)
    split = wants.tensor_split
    if split is not None:
        for share in split:
            _check("tensor_split", share, 0, 1e6)
        if split and not sum(split) > 0:
            raise EngineError("engine.bad_load", field="tensor_split", value="0")
    return replace(
        wants,
        n_threads=_at_most(wants.n_threads, logical_cores()),
        n_cpu_moe=_at_most(wants.n_cpu_moe, MOST_LAYERS),
    )


def _check(field: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:  # NaN is in no interval
        raise EngineError("engine.bad_load", field=field, value=value)


def _at_most(value: int | None, most: int) -> int | None:
    return None if value is None else min(value, most)
