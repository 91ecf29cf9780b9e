"""What a header says about its model, in the words of the library's cards.

Owns reading llama.cpp's metadata keys (gguf-py/gguf/constants.py) and guessing what is not written:
capabilities are guesses from the architecture and the template's text, made before anything is
loaded. Texts are as in the file: clean them where they are shown. Refuses files.
"""

from collections import Counter
from typing import Final, Literal

from msgspec import Struct

from llmchat.gguf.reader import BigArray, Header
from llmchat.gguf.types import FILE_TYPES

Capability = Literal[
    "chat", "thinking", "tools", "embedding", "rerank", "vision", "swa", "recurrent", "hybrid",
    "experts", "projector",
]  # fmt: skip

RECURRENT: Final = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
HYBRID: Final = frozenset({
    "jamba", "falcon-h1", "plamo2", "plamo3", "granitehybrid", "lfm2", "lfm2moe", "nemotron_h",
    "nemotron_h_moe", "qwen3next", "qwen35", "qwen35moe", "kimi-linear",
})  # fmt: skip
ENCODERS: Final = frozenset({
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2",
    "jina-bert-v3", "eurobert", "gemma-embedding", "t5encoder",
})  # fmt: skip
_RANK: Final = 4
_VECTORS: Final = (1, 2, 3)
"""llama.cpp's pooling types: of rerankers; of embedding models (mean, first token, last)."""


class Description(Struct, frozen=True, kw_only=True):
    """A model file in numbers. 0 and "" = the file does not say."""

    architecture: str = ""
    name: str = ""
    parameters: int = 0
    """Numbers in this file's tensors."""
    size: int = 0
    """Bytes of this file."""
    quantization: str = ""
    """`Q4_K_M`; of the file as a whole, not of each tensor."""
    n_ctx_train: int = 0
    n_layers: int = 0
    n_embd: int = 0
    n_head: int = 0
    n_head_kv: int = 0
    head_size_k: int = 0
    head_size_v: int = 0
    sliding_window: int = 0
    n_expert: int = 0
    n_expert_used: int = 0
    n_vocab: int = 0
    tokenizer: str = ""
    chat_template: str = ""
    capabilities: tuple[Capability, ...] = ()
    license: str = ""
    size_label: str = ""
    """As its makers call it: `135M`, `8x7B`."""
    shards: int = 1


def describe(header: Header) -> Description:
    """The description. Never fails: what is missing or odd is left empty."""
    n_head = _own(header, "attention.head_count")
    n_embd = _own(header, "embedding_length")
    head = n_embd // n_head if n_head > 0 else 0
    return Description(
        architecture=header.architecture,
        name=header.text("general.name"),
        parameters=sum(tensor.elements for tensor in header.tensors),
        size=header.file_size,
        quantization=quantization(header),
        n_ctx_train=_own(header, "context_length"),
        n_layers=_own(header, "block_count"),
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=_own(header, "attention.head_count_kv", n_head),
        head_size_k=_own(header, "attention.key_length", head),
        head_size_v=_own(header, "attention.value_length", head),
        sliding_window=_own(header, "attention.sliding_window"),
        n_expert=_own(header, "expert_count"),
        n_expert_used=_own(header, "expert_used_count"),
        n_vocab=_vocabulary(header),
        tokenizer=header.text("tokenizer.ggml.model"),
        chat_template=header.text("tokenizer.chat_template"),
        capabilities=_capabilities(header),
        license=header.text("general.license"),
        size_label=header.text("general.size_label"),
        shards=header.shards,
    )


def quantization(header: Header) -> str:
    """The file type's name; without one, the type that holds most of the weights."""
    number = header.metadata.get("general.file_type")
    if isinstance(number, int) and number in FILE_TYPES:
        return FILE_TYPES[number]
    weights: Counter[str] = Counter()
    for tensor in header.tensors:
        if len(tensor.shape) > 1:
            weights[tensor.kind.name] += tensor.size
    return max(weights, key=lambda name: weights[name], default="")


def _own(header: Header, key: str, default: int = 0) -> int:
    return header.number(f"{header.architecture}.{key}", default)


def _vocabulary(header: Header) -> int:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, BigArray):
        return tokens.count
    return len(tokens) if isinstance(tokens, tuple) else _own(header, "vocab_size")


def _capabilities(header: Header) -> tuple[Capability, ...]:
    architecture = header.architecture
    template = header.text("tokenizer.chat_template")
    pooling = _own(header, "pooling_type")
    rerank = pooling == _RANK
    embedding = not rerank and (architecture in ENCODERS or pooling in _VECTORS)
    projector = architecture == "clip" or header.text("general.type") == "mmproj"
    writes = not (embedding or rerank or projector)  # some keep the template of what they were
    found: dict[Capability, bool] = {
        "chat": bool(template) and writes,
        "thinking": writes
        and any(sign in template for sign in ("think>", "THINK]", "|>analysis", "THINKING")),
        "tools": writes and "tools" in template,
        "embedding": embedding,
        "rerank": rerank,
        "vision": projector and header.metadata.get("clip.has_vision_encoder") is not False,
        "swa": _own(header, "attention.sliding_window") > 0,
        "recurrent": architecture in RECURRENT,
        "hybrid": architecture in HYBRID,
        "experts": _own(header, "expert_count") > 0,
        "projector": projector,
    }
    return tuple(capability for capability, there in found.items() if there)
