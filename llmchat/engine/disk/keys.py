"""What a saved state belongs to: the circumstances it was computed in, and its tokens.

Owns the two hashes. A state is only ever offered where both are equal: everything that changes a
cell's numbers or its layout is in `Circumstances`, every token of the prefix is in the chain.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Tokens = npt.NDArray[np.int32]

FORMAT = 1
"""Changes whenever an old file must not be read any more."""
BLOCK = 256
"""Tokens of one link of the chain, and the least that is worth a write."""
_LINK = 16


class Circumstances(Struct, frozen=True, kw_only=True):
    """What decides, for a worker's whole life, what a cell of its KV cache holds.

    What a request decides must be in its tokens: a mixture of adapters takes the place of the first
    one there (`worker/adapters.py`), and media will have to stand there by their hashes.
    """

    identity: str
    """The model's (docs/architecture.md)."""
    build: str
    """The binding's version and what llama.cpp was compiled for."""
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attn: str = "auto"
    """It decides whether V lies transposed."""
    swa_full: bool = False
    kv_unified: bool = True
    offloaded: bool = False
    """Whether layers are on a GPU: `auto` flash attention may be decided otherwise there."""
    rope: tuple[str, ...] = ()
    """Every RoPE value of the model's metadata."""
    long_rope: bool = False
    """n_ctx_seq > n_ctx_orig: LongRoPE takes other factors there."""

    @property
    def digest(self) -> str:
        """32 hex digits."""
        return hashlib.sha256(msgspec.json.encode((FORMAT, self))).hexdigest()[:32]


def as_tokens(tokens: Sequence[int]) -> "Tokens":
    """Token ids as they are hashed and stored: int32, little endian."""
    import numpy as np  # as in entry.py

    return np.asarray(tokens, dtype="<i4")


def chain(circumstances: str, tokens: Sequence[int]) -> tuple[bytes, ...]:
    """A hash for every whole block of `tokens`, each over the one before it.

    Two prefixes share their first k links exactly when they share 256 k tokens.
    """
    flat = as_tokens(tokens)
    link = bytes.fromhex(circumstances)
    links = []
    for start in range(0, len(flat) - BLOCK + 1, BLOCK):
        data = link + flat[start : start + BLOCK].tobytes()
        link = hashlib.sha256(data).digest()[:_LINK]
        links.append(link)
    return tuple(links)


def name_of(circumstances: str, tokens: Sequence[int]) -> str:
    """The name of the state of exactly these tokens: 32 hex digits."""
    data = bytes.fromhex(circumstances) + as_tokens(tokens).tobytes()
    return hashlib.sha256(data).hexdigest()[:32]


def common_links(one: Sequence[bytes], two: Sequence[bytes]) -> int:
    """How many leading links are the same."""
    for index, (mine, yours) in enumerate(zip(one, two, strict=False)):
        if mine != yours:
            return index
    return min(len(one), len(two))
