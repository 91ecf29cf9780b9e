"""What a model's size depends on, read from its headers: weights and memory of each layer.

Owns turning tensors and llama.cpp's metadata keys into a small value that can be kept and asked
again and again, before the file is here. Refuses arithmetic with a context (`memory.py`).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from llmchat.gguf.describe import ENCODERS, HYBRID, RECURRENT, describe
from llmchat.gguf.reader import Header

MAX_LAYERS: Final = 1024
# Every n-th layer sees everything, the others a window: llama.cpp's own table, where the file has
# no `attention.sliding_window_pattern` (src/models, set_swa_pattern).
_PATTERNS: Final = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma4": 6, "gemma-embedding": 6, "gpt-oss": 2,
    "cohere2": 4, "exaone4": 4, "llama4": 4, "olmo2": 4, "smallthinker": 4, "step35": 4,
}  # fmt: skip
_INPUTS: Final = ("token_embd.", "per_layer_token_embd.", "position_embd.", "token_types.")


class Layer(Struct, frozen=True, kw_only=True):
    """One layer. Weights in bytes; K and V in numbers a cell and KV head."""

    weights: int = 0
    """Without the experts."""
    experts: int = 0
    heads_kv: int = 0
    windowed: bool = False
    state: int = 0
    """Bytes of a recurrent state for one sequence."""


class Shape(Struct, frozen=True, kw_only=True):
    """A model as memory sees it."""

    architecture: str = ""
    layers: tuple[Layer, ...] = ()
    inputs: int = 0
    """Bytes of the token embeddings: always in RAM."""
    outputs: int = 0
    """Bytes of the rest outside the layers: norms and the output matrix."""
    tied: bool = False
    """The embeddings are the output matrix too: a GPU gets a second copy."""
    head_k: int = 0
    head_v: int = 0
    """0 where the values are a view of the keys (latent attention)."""
    n_ctx_train: int = 0
    n_embd: int = 0
    n_head: int = 0
    n_ff: int = 0
    gated: bool = True
    """The feed-forward block has a gate: three rows of `n_ff` live at once, else one."""
    n_ff_expert: int = 0
    n_expert: int = 0
    n_expert_used: int = 0
    n_inner: int = 0
    """Width of a recurrent layer's inside (Mamba's `ssm.inner_size`)."""
    n_vocab: int = 0
    window: int = 0

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return self.inputs + self.outputs + sum(row.weights + row.experts for row in self.layers)

    @property
    def encoder(self) -> bool:
        """It keeps nothing of what it read: no cache, no state."""
        return not any(layer.heads_kv or layer.state for layer in self.layers)

    @property
    def stateful(self) -> bool:
        """Something is held for each sequence: a window, or a recurrent state."""
        return self.window > 0 or any(layer.state for layer in self.layers)


def shape_of(headers: Sequence[Header]) -> Shape:
    """The shape of a model over all its shards; the first header has the metadata."""
    header = headers[0]
    about = describe(header)
    n_layers = min(max(0, about.n_layers), MAX_LAYERS)
    weights: dict[str, int] = defaultdict(int)
    names: set[str] = set()
    for name, size in _sizes(headers):
        names.add(name)
        weights[_part(name, n_layers)] += size
    # Encoders have no memory of what they read (llama-model.cpp, create_memory).
    n_head_kv = 0 if about.architecture in ENCODERS else about.n_head_kv
    heads = _heads(header, n_layers, n_head_kv)
    recurrent = _recurrent(header, heads)
    windowed = _windowed(header, n_layers) if about.sliding_window else frozenset()
    latent = header.number(f"{about.architecture}.attention.key_length_mla")
    return Shape(
        architecture=about.architecture,
        layers=tuple(
            Layer(
                weights=weights[str(layer)],
                experts=weights[f"{layer} experts"],
                heads_kv=0 if layer in recurrent else max(0, heads[layer]),
                windowed=layer in windowed,
                state=_state(header, about.n_embd) if layer in recurrent else 0,
            )
            for layer in range(n_layers)
        ),
        inputs=weights["inputs"],
        outputs=weights["outputs"],
        tied="output.weight" not in names,
        head_k=max(0, about.head_size_k),
        head_v=0 if latent else max(0, about.head_size_v),
        n_ctx_train=max(0, about.n_ctx_train),
        n_embd=max(0, about.n_embd),
        n_head=max(0, about.n_head),
        gated=_gated(headers, header.number(f"{about.architecture}.feed_forward_length")),
        n_ff=max(0, header.number(f"{about.architecture}.feed_forward_length")),
        n_ff_expert=max(0, header.number(f"{about.architecture}.expert_feed_forward_length")),
        n_expert=max(0, about.n_expert),
        n_expert_used=max(0, about.n_expert_used),
        n_inner=max(0, header.number(f"{about.architecture}.ssm.inner_size")),
        n_vocab=max(0, about.n_vocab),
        window=max(0, about.sliding_window) if windowed else 0,
    )


def _sizes(headers: Sequence[Header]) -> Iterator[tuple[str, int]]:
    for header in headers:
        for tensor in header.tensors:
            yield tensor.name, tensor.size


def _part(name: str, n_layers: int) -> str:
    """What a tensor belongs to: `inputs`, `outputs`, a layer's number, or its experts."""
    if name.startswith(_INPUTS):
        return "inputs"
    head, _, rest = name.partition(".")
    number, _, rest = rest.partition(".")
    if head != "blk" or not number.isdecimal() or int(number) >= n_layers:
        return "outputs"
    return f"{int(number)} experts" if "_exps" in rest else str(int(number))


def _gated(headers: Sequence[Header], n_ff: int) -> bool:
    """Whether a dense block has a gate: a tensor of its own, or fused into a wider `ffn_up`."""
    ups = 0
    for header in headers:
        for tensor in header.tensors:
            if ".ffn_gate.weight" in tensor.name:
                return True
            if ".ffn_up.weight" in tensor.name and len(tensor.shape) > 1:
                ups = max(ups, tensor.shape[1])
    return ups == 0 or ups > n_ff


def _heads(header: Header, n_layers: int, n_head_kv: int) -> tuple[int, ...]:
    """KV heads of each layer; hybrids write one number a layer, 0 where there is no attention."""
    value = header.metadata.get(f"{header.architecture}.attention.head_count_kv")
    if isinstance(value, tuple) and len(value) == n_layers:
        return tuple(int(item) if isinstance(item, int) else 0 for item in value)
    return (n_head_kv,) * n_layers


def _recurrent(header: Header, heads: Sequence[int]) -> frozenset[int]:
    """The layers that hold a state instead of a cache."""
    layers = range(len(heads))
    if header.architecture in RECURRENT:
        return frozenset(layers)
    if header.architecture not in HYBRID:
        return frozenset()
    every = header.number(f"{header.architecture}.full_attention_interval")
    if every > 0:
        return frozenset(layer for layer in layers if (layer + 1) % every)
    return frozenset(layer for layer in layers if heads[layer] == 0)


def _state(header: Header, n_embd: int) -> int:
    """Bytes of one layer's state for one sequence, in F32 (llama-hparams.cpp, n_embd_r and _s)."""

    def own(key: str) -> int:
        return max(0, header.number(f"{header.architecture}.{key}"))

    wkv = own("wkv.head_size")
    if wkv:
        return 4 * n_embd * (max(1, own("token_shift_count")) + wkv)
    short = own("shortconv.l_cache")
    if short:
        return 4 * n_embd * (short - 1)
    inner, state = own("ssm.inner_size"), own("ssm.state_size")
    convolution = max(0, own("ssm.conv_kernel") - 1)
    return 4 * (convolution * (inner + 2 * own("ssm.group_count") * state) + state * inner)


def _windowed(header: Header, n_layers: int) -> frozenset[int]:
    pattern = header.metadata.get(f"{header.architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        return frozenset(layer for layer, there in enumerate(pattern[:n_layers]) if there)
    every = pattern if isinstance(pattern, int) else _PATTERNS.get(header.architecture, 0)
    if every <= 0:
        return frozenset()
    return frozenset(layer for layer in range(n_layers) if layer % every < every - 1)
