"""How many bytes a model takes besides its weights, from its header alone.

Owns two formulas, both llama.cpp's, and held to what llama.cpp lays out for models of many shapes
(tests/engine/worker/test_formula.py: within 5 % of the whole).

**KV cache** (src/llama-kv-cache.cpp, -iswa.cpp): a layer's cell takes
`n_head_kv * (head_size_k * bytes(type_k) + head_size_v * bytes(type_v))`. Cells are the context
rounded up to 256; in sliding-window layers the window of every sequence and one micro-batch.

**Compute buffer**: the largest moment of one graph for `n_ubatch` tokens, in F32. With flash
attention that is a feed-forward block, `3 * n_ff + 3 * n_embd + n_head * head_size` numbers a
token, beside the masks (F16, one row of the cells a token), or the logits of the rows that are
sampled. Without it, the scores of all heads over all cells. A mixture of experts computes
`n_expert_used` blocks at once, or holds their outputs twice, whichever is more.

Refuses weights (`shape.py`) and devices: what lies where is placement's.
"""

from typing import Final

from llmchat.gguf.reader import Header
from llmchat.gguf.shape import Layer, Shape, shape_of
from llmchat.gguf.types import BY_NAME

_PAD: Final = 256


def kv_bytes(
    header: Header,
    n_ctx: int,
    type_k: str = "f16",
    type_v: str = "f16",
    *,
    swa_full: bool = False,
    n_ubatch: int = 512,
) -> int:
    """Bytes of the KV cache and states of one sequence of `n_ctx` tokens; 0 where there is none.

    Raises:
        KeyError: a cache type that ggml does not have.
    """
    shape = shape_of([header])
    return sum(
        layer_bytes(
            shape, layer, n_ctx, type_k, type_v, swa_full=swa_full, n_ubatch=n_ubatch, n_seq=1
        )
        for layer in shape.layers
    )


def layer_bytes(
    shape: Shape,
    layer: Layer,
    n_ctx: int,
    type_k: str,
    type_v: str,
    *,
    n_ubatch: int,
    n_seq: int,
    swa_full: bool = False,
) -> int:
    """Bytes of one layer's KV cache of `n_ctx` cells, and its states for `n_seq` sequences.

    Raises:
        KeyError: a cache type that ggml does not have.
    """
    cells = padded(n_ctx)
    if layer.windowed and not swa_full:
        cells = window_cells(shape, n_ctx, n_ubatch=n_ubatch, n_seq=n_seq)
    row = _row(type_k, shape.head_k) + _row(type_v, shape.head_v)
    return cells * layer.heads_kv * row + layer.state * n_seq


def window_cells(shape: Shape, n_ctx: int, *, n_ubatch: int, n_seq: int) -> int:
    """Cells of a sliding-window layer: every sequence's window, and what is being read."""
    return min(padded(n_ctx), padded(shape.window * n_seq + n_ubatch))


def compute_bytes(
    shape: Shape,
    n_ctx: int,
    *,
    n_ubatch: int,
    n_seq: int,
    flash_attn: bool = True,
    swa_full: bool = False,
) -> int:
    """Bytes of the compute buffer: an estimate, good to a few percent."""
    masks = mask_cells(shape, n_ctx, n_ubatch=n_ubatch, n_seq=n_seq, swa_full=swa_full)
    residuals = 3 if len(shape.layers) > 2 else 2
    width = residuals * shape.n_embd + (0 if shape.encoder else shape.n_head * shape.head_k)
    layers = (2 if flash_attn else 4) * masks * n_ubatch + 4 * n_ubatch * (width + _widest(shape))
    if not flash_attn:
        scores = (n_ubatch if shape.encoder else padded(n_ctx)) * shape.n_head
        layers = max(layers, 4 * n_ubatch * (masks + scores + 2 * width))
    sampled = min(n_seq, n_ubatch) * (shape.n_vocab + 2 * shape.n_embd)
    return max(layers, 4 * (sampled + n_ubatch * shape.n_embd))


def mask_cells(
    shape: Shape, n_ctx: int, *, n_ubatch: int, n_seq: int, swa_full: bool = False
) -> int:
    """Columns of the attention masks: one for the whole context, a second for windows."""
    if shape.encoder:
        return n_ubatch
    if not any(layer.heads_kv for layer in shape.layers):
        return 0
    cells = padded(n_ctx)
    if not any(layer.windowed for layer in shape.layers):
        return cells
    return cells + (
        cells if swa_full else window_cells(shape, n_ctx, n_ubatch=n_ubatch, n_seq=n_seq)
    )


def padded(cells: int) -> int:
    """Cells as llama.cpp rounds them: whole blocks of 256."""
    return -(-cells // _PAD) * _PAD


def _widest(shape: Shape) -> int:
    """Numbers a token in the widest feed-forward block: gate, up and their product."""
    dense = (3 if shape.gated else 1) * shape.n_ff if not shape.n_expert else 0
    if shape.n_inner:  # measured on Mamba: six times the inside and two residuals
        dense = max(dense, 6 * shape.n_inner - shape.n_embd)
    used = min(shape.n_expert_used, shape.n_expert)
    if not used:
        return dense
    block = shape.n_ff_expert or shape.n_ff
    return max(dense, 3 * used * block, used * block + 2 * used * shape.n_embd)


def _row(kind: str, elements: int) -> int:
    block = BY_NAME[kind.lower()]
    return -(-elements // block.block) * block.size
