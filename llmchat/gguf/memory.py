"""How many bytes the KV cache takes, from the header alone.

Owns one formula, llama.cpp's (src/llama-kv-cache.cpp, -iswa.cpp): per layer and cell,
`n_head_kv * (head_size_k * bytes(type_k) + head_size_v * bytes(type_v))`; cells are the context,
and in sliding-window layers the window and one micro-batch, both rounded up to 256. Measured: the
starter at 4,096 f16 takes 90 MiB, Gemma 3 270M at 32,768 576 MiB whole and 111 MiB windowed. An
estimate for what the formula does not know (recurrent states are small and left out); a loaded
engine's own numbers are exact. Refuses weights and compute buffers.
"""

from typing import Final

from llmchat.gguf.describe import RECURRENT, describe
from llmchat.gguf.reader import Header
from llmchat.gguf.types import BY_NAME

_PAD: Final = 256
# Every n-th layer sees everything, the others a window: llama.cpp's own table, where the file has
# no `attention.sliding_window_pattern` (src/models, set_swa_pattern).
_PATTERNS: Final = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma4": 6, "gemma-embedding": 6, "gpt-oss": 2,
    "cohere2": 4, "exaone4": 4, "llama4": 4, "olmo2": 4, "smallthinker": 4, "step35": 4,
}  # fmt: skip


def kv_bytes(
    header: Header,
    n_ctx: int,
    type_k: str = "f16",
    type_v: str = "f16",
    *,
    swa_full: bool = False,
    n_ubatch: int = 512,
) -> int:
    """Bytes of the KV cache for `n_ctx` tokens; 0 where a model has none.

    Raises:
        KeyError: a cache type that ggml does not have.
    """
    about = describe(header)
    if about.architecture in RECURRENT or about.n_layers <= 0 or about.n_layers > 1024:
        return 0
    full = _padded(n_ctx)
    windowed = min(full, _padded(about.sliding_window + n_ubatch))
    window = [] if swa_full or not about.sliding_window else _windowed_layers(header)
    per_head = _row(type_k, about.head_size_k)
    if not header.number(f"{about.architecture}.attention.key_length_mla"):
        # With latent attention (DeepSeek) the values are a view of the keys.
        per_head += _row(type_v, about.head_size_v)
    heads = _heads(header, about.n_layers, about.n_head_kv)
    cells = (windowed if layer in window else full for layer in range(about.n_layers))
    return sum(n * n_heads * per_head for n, n_heads in zip(cells, heads, strict=True))


def _row(kind: str, elements: int) -> int:
    block = BY_NAME[kind.lower()]
    return -(-elements // block.block) * block.size


def _heads(header: Header, n_layers: int, n_head_kv: int) -> tuple[int, ...]:
    """KV heads of each layer; hybrids write one number a layer, 0 where there is no attention."""
    value = header.metadata.get(f"{header.architecture}.attention.head_count_kv")
    if isinstance(value, tuple) and len(value) == n_layers:
        return tuple(int(item) if isinstance(item, int) else 0 for item in value)
    return (n_head_kv,) * n_layers


def _windowed_layers(header: Header) -> list[int]:
    n_layers = header.number(f"{header.architecture}.block_count")
    pattern = header.metadata.get(f"{header.architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        return [layer for layer, there in enumerate(pattern[:n_layers]) if there]
    every = pattern if isinstance(pattern, int) else _PATTERNS.get(header.architecture, 0)
    if every <= 0:
        return []
    return [layer for layer in range(n_layers) if layer % every < every - 1]


def _padded(cells: int) -> int:
    return -(-cells // _PAD) * _PAD
