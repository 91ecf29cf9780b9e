"""Loading a model of vectors: placed like any other, with a context that pools.

Owns the size of its batch. An encoder sees a whole text at once, so that a text must fit into one
micro-batch: the context is both.
"""

from typing import Final

from llama_cpp import llama_cpp as lib
from msgspec.structs import replace

from llmchat.engine.protocol import Facts
from llmchat.engine.worker.capi import Pointer, model_description, model_text
from llmchat.engine.worker.fit import Decision
from llmchat.engine.worker.loader import ContextParams, Loaded
from llmchat.engine.worker.loading import Audience, build, load
from llmchat.engine.worker.log import LogRing
from llmchat.values import ModelFile, Wants

LARGEST: Final = 2048
"""Tokens of a text when nobody asks for more (`--ctx-size`): what attention needs grows with it."""
BATCH_CPU: Final = 512
BATCH_GPU: Final = 2048
"""Tokens of a decode: short texts share one. Attention is computed over all of it, masked, so that
on a CPU a larger one costs more than it saves."""
N_SEQ_MAX: Final = 64
UNSPECIFIED, NONE, MEAN, RANK = -1, 0, 1, 4
"""`enum llama_pooling_type`."""


class OpenedVectors:
    """Everything that the backend needs of a loaded model."""

    def __init__(self, loaded: Loaded, facts: Facts, *, width: int, packed: int) -> None:
        self.loaded = loaded
        self.facts = facts
        self.width = width
        """Numbers a sequence: the vector's, or the classifier's."""
        self.packed = packed
        """Tokens that texts share a decode up to."""


def open_vectors(model: ModelFile, wants: Wants, log: LogRing, audience: Audience) -> OpenedVectors:
    """Load a model of vectors. Adapters are for models that write.

    Raises:
        EngineError: the header's or llama.cpp's reason, or that it was told to stop.
    """
    return load(
        model, replace(wants, lora=None, control_vectors=None), log, audience,
        prepare=lambda pointer, decision: context_params(pointer, wants, decision.context),
        finish=lambda *parts: _opened(model, wants, *parts),
    )  # fmt: skip


def context_params(model: Pointer, wants: Wants, placed: ContextParams) -> ContextParams:
    """A context that pools, and takes the longest text in one piece."""
    trained = int(lib.llama_model_n_ctx_train(model)) or LARGEST
    longest = min(wants.n_ctx or LARGEST, trained)
    rows = max(longest, BATCH_CPU)
    architecture = model_text(model, "general.architecture") or ""
    own = model_text(model, f"{architecture}.pooling_type")
    return replace(
        placed,
        n_ctx=rows,
        n_batch=rows,
        n_ubatch=rows,
        n_seq_max=N_SEQ_MAX,
        embeddings=True,
        pooling=MEAN if own in (None, str(NONE)) else UNSPECIFIED,
    )


def _opened(
    model: ModelFile, wants: Wants, loaded: Loaded, decision: Decision, params: ContextParams
) -> OpenedVectors:
    pointer = loaded.model
    ranks = int(lib.llama_pooling_type(loaded.context.pointer)) == RANK
    n_embd = int(lib.llama_model_n_embd(pointer))
    width = int(lib.llama_model_n_cls_out(pointer)) if ranks else _n_embd_out(pointer, n_embd)
    trained = int(lib.llama_model_n_ctx_train(pointer))
    facts = Facts(
        model=model.name,
        identity=model.identity,
        architecture=model_text(pointer, "general.architecture") or "",
        description=model_description(pointer),
        n_ctx=min(params.n_ctx, trained or params.n_ctx),
        n_ctx_train=trained,
        pool=params.n_ctx,
        n_seq_max=params.n_seq_max,
        n_vocab=loaded.vocab.size,
        vocab=loaded.vocab.digest,
        capabilities=("rerank",) if ranks else ("embedding",),
        n_embd=n_embd if ranks else width,
        placement=decision.placement,
        memory=decision.memory,
        build=build(),
        n_threads=params.n_threads,
    )
    default = BATCH_GPU if decision.placement.n_gpu_layers else BATCH_CPU
    packed = min(wants.n_batch or default, params.n_batch)
    return OpenedVectors(loaded, facts, width=width, packed=packed)


def _n_embd_out(model: Pointer, n_embd: int) -> int:
    """Some models project their vectors to another size at the end."""
    ask = getattr(lib, "llama_model_n_embd_out", None)
    return int(ask(model)) or n_embd if ask is not None else n_embd
