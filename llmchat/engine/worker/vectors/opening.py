"""Loading a model of vectors: placed like any other, with a context that pools.

Owns the size of its batch. What looks in both directions, or means over all tokens, sees a whole
text at once: context, batch and micro-batch are the same. A causal model whose last token is the
vector, or is scored, reads a long text in pieces.
"""

from typing import Final

from llama_cpp import llama_cpp as lib
from msgspec.structs import replace

from llmchat.engine.protocol import Facts
from llmchat.engine.worker.capi import Context, Pointer, model_description, model_text
from llmchat.engine.worker.fit import Decision
from llmchat.engine.worker.loader import ContextParams, Loaded
from llmchat.engine.worker.loading import Audience, build, load
from llmchat.engine.worker.log import LogRing
from llmchat.errors import EngineError, ModelFileError
from llmchat.gguf import read_header
from llmchat.gguf.describe import ENCODERS
from llmchat.values import ModelFile, Wants

LARGEST: Final = 2048
"""Tokens of a text when nobody asks for more (`--ctx-size`): what attention needs grows with it."""
BATCH_CPU: Final = 512
BATCH_GPU: Final = 2048
"""Tokens of a decode: short texts share one. Attention is computed over all of it, masked, so that
on a CPU a larger one costs more than it saves."""
BATCH_PIECES: Final = 512
"""Of a model that reads in pieces, anywhere: llama.cpp gives logits of every row, needed or not
(half a megabyte each with 150,000 tokens in the vocabulary, in two buffers)."""
N_SEQ_MAX: Final = 64
UNSPECIFIED, NONE, MEAN, LAST, RANK = -1, 0, 1, 3, 4
"""`enum llama_pooling_type`."""
CLASSIFIERS: Final = frozenset({"cls.weight", "cls.output.weight"})


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
        EngineError: the header's or llama.cpp's reason, a reranker without its classifier, or
            that it was told to stop.
    """
    _check_classifier(model)
    placing = replace(wants, lora=None, control_vectors=None, n_ctx=wants.n_ctx or LARGEST)
    return load(
        model, placing, log, audience,
        shape=lambda pointer, placed: context_params(pointer, wants, placed),
        finish=lambda loaded, decision: _opened(model, wants, loaded, decision),
    )  # fmt: skip


def _check_classifier(model: ModelFile) -> None:
    """Without one, llama.cpp takes the first numbers of the last layer for scores.

    Raises:
        EngineError: it has none.
    """
    try:
        header = read_header(model.path)
    except ModelFileError:
        return  # loading says why
    ranks = header.number(f"{header.architecture}.pooling_type") == RANK
    if ranks and header.shards == 1 and CLASSIFIERS.isdisjoint(t.name for t in header.tensors):
        raise EngineError("engine.no_classifier")


def context_params(model: Pointer, wants: Wants, placed: ContextParams) -> ContextParams:
    """A context that pools, for texts as long as was asked for."""
    trained = int(lib.llama_model_n_ctx_train(model)) or LARGEST
    longest = min(wants.n_ctx or LARGEST, trained)
    cells = max(longest, BATCH_CPU)
    architecture = model_text(model, "general.architecture") or ""
    own = model_text(model, f"{architecture}.pooling_type")
    # llama.cpp ends the process over a micro-batch that a model would have to see whole.
    rows = min(wants.n_batch or BATCH_PIECES, cells) if _in_pieces(model, architecture) else cells
    return replace(
        placed,
        n_ctx=cells,
        n_batch=rows,
        n_ubatch=rows,
        n_seq_max=N_SEQ_MAX,
        embeddings=True,
        pooling=MEAN if own in (None, str(NONE)) else UNSPECIFIED,
    )


def _in_pieces(model: Pointer, architecture: str) -> bool:
    """Whether a text may be read in pieces, as llama.cpp's server decides it (`can_split`)."""
    pooling = model_text(model, f"{architecture}.pooling_type")
    causal = model_text(model, f"{architecture}.attention.causal") != "false"
    return causal and architecture not in ENCODERS and pooling in (str(LAST), str(RANK))


def _longest(context: Context, params: ContextParams, trained: int) -> int:
    """Tokens of a text at most."""
    pieces = params.n_batch < params.n_ctx and bool(lib.llama_get_causal_attn(context.pointer))
    most = params.n_ctx if pieces else params.n_batch
    return min(most, trained or most)


def _opened(model: ModelFile, wants: Wants, loaded: Loaded, decision: Decision) -> OpenedVectors:
    pointer, params = loaded.model, decision.context
    ranks = int(lib.llama_pooling_type(loaded.context.pointer)) == RANK
    n_embd = int(lib.llama_model_n_embd(pointer))
    width = int(lib.llama_model_n_cls_out(pointer)) if ranks else _n_embd_out(pointer, n_embd)
    trained = int(lib.llama_model_n_ctx_train(pointer))
    facts = Facts(
        model=model.name,
        identity=model.identity,
        architecture=model_text(pointer, "general.architecture") or "",
        description=model_description(pointer),
        n_ctx=_longest(loaded.context, params, trained),
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
