"""How many bytes a model and its context take, per device, without taking them.

Owns `llama_get_memory_breakdown`, a C++ function of llama.cpp that returns a `std::map` by value:
found by its mangled name, walked as the Itanium ABI's red-black tree, and trusted only after a
self-test. Where it is missing, a formula over the model's own numbers answers (`estimate`).
"""

import ctypes
import struct
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Final

from llama_cpp import llama_cpp as lib

from llmchat.engine.placing import Sizes
from llmchat.engine.worker.capi import Pointer
from llmchat.engine.worker.devices import device_of_buffer, find_devices

_SYMBOL: Final = "_Z26llama_get_memory_breakdownPK13llama_context"
_NODE: Final = struct.Struct("<QQQQ")
"""A tree node: color and padding, parent, left, right; then key and three sizes."""
_MOST_NODES: Final = 64


class _Map(ctypes.Structure):
    """A `std::map` of libstdc++ or libc++ on 64 bits: 48 bytes are enough for either."""

    _fields_ = (("bytes", ctypes.c_ubyte * 48),)


@cache
def _function() -> Pointer:
    try:
        function = lib._lib[_SYMBOL]
    except AttributeError:
        return None
    function.restype, function.argtypes = _Map, [ctypes.c_void_p]
    return function


def breakdown(context: Pointer) -> dict[str, Sizes] | None:
    """Bytes per device name; None where the symbol or the expected layout is missing."""
    function = _function()
    if function is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    raw = bytes(function(ctypes.cast(context, ctypes.c_void_p)).bytes)
    # libstdc++: comparator, header node (color, parent = root, leftmost, rightmost), count.
    _compare, color, root, _left, _right, count = struct.unpack("<QQQQQQ", raw)
    if color & 0xFFFFFFFF > 1 or not 0 < count <= _MOST_NODES or not root:
        return None
    rows = list(_walk(root))
    if len(rows) != count:
        return None
    found: dict[str, Sizes] = defaultdict(Sizes)
    for buffer_type, model, context_bytes, compute in rows:
        name = device_of_buffer(buffer_type)
        old = found[name]
        found[name] = Sizes(old.model + model, old.context + context_bytes, old.compute + compute)
    return dict(found)


def _walk(node: int, depth: int = 0) -> Iterator[tuple[int, int, int, int]]:
    if not node or depth > _MOST_NODES:
        return
    _color, _parent, left, right = _NODE.unpack(ctypes.string_at(node, 32))
    yield from _walk(left, depth + 1)
    yield _NODE.unpack(ctypes.string_at(node + 32, 32))
    yield from _walk(right, depth + 1)


def plausible(found: dict[str, Sizes] | None, model_bytes: int) -> bool:
    """The self-test: the weights that it counts are the weights that the model says it has.

    Repacked buffers and duplicated embeddings move it a little; a wrong layout moves it wildly.
    """
    if not found:
        return False
    counted = sum(sizes.model for sizes in found.values())
    return 0.7 * model_bytes <= counted <= 1.6 * model_bytes + (64 << 20)


def first_gpu(handles: tuple[int, ...] | None) -> str | None:
    """The name of the first GPU among `handles` (None = any), for the formula."""
    for item in find_devices():
        allowed = handles is None or item.handle in handles
        if allowed and item.device.type in ("gpu", "igpu"):
            return item.device.name
    return None


BYTES: Final = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
    "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
"""Bytes of one value of the KV cache by type (ggml's block sizes)."""


def kv_bytes(cells: int, n_layers: int, k_width: int, v_width: int, k: str, v: str) -> int:
    """Bytes of a KV cache: each cell holds a row of K and one of V in each layer."""
    return int(cells * n_layers * (k_width * BYTES[k] + v_width * BYTES[v]))


def compute_bytes(n_ubatch: int, n_outputs: int, n_vocab: int, n_embd: int) -> int:
    """A bound for the compute buffer: logits of the sampled rows, and ten rows of width n_embd."""
    return 4 * (n_outputs * n_vocab + 10 * n_ubatch * n_embd) + (16 << 20)
