"""States for the tests: bytes that follow from their tokens, so that any mix-up shows."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from llmchat.engine.disk import Candidate, Circumstances, Folder, Meta, Shelf, Snapshot
from llmchat.engine.disk.shelf import Usable

HERE = Circumstances(identity="a" * 64, build="test").digest
BYTES_PER_TOKEN = 64


def conversation(seed: int, length: int) -> tuple[int, ...]:
    """Tokens of a conversation; the same seed and a greater length go on from it."""
    return tuple(np.random.default_rng(seed).integers(0, 50_000, 8192)[:length].tolist())


def state_of(tokens: tuple[int, ...] | list[int]) -> np.ndarray:
    """The state that belongs to these tokens."""
    digest = hashlib.sha256(np.asarray(tokens, "<i4").tobytes()).digest()
    seed = int.from_bytes(digest[:8], "little")
    size = BYTES_PER_TOKEN * len(tokens)
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def snapshot(tokens: tuple[int, ...], tag: str = "one", **more: Any) -> Snapshot:
    return Snapshot(tokens=tokens, state=state_of(tokens), tag=tag, **more)


def anywhere(_meta: Meta, common: int) -> int:
    """A memory that can be cut at every token."""
    return common


def whole(meta: Meta, common: int) -> int:
    """A memory that cannot be cut, but to its checkpoints."""
    ends = [end for end, _ in meta.checkpoints if end <= common]
    return common if common == meta.n_tokens else max(ends, default=0)


def shelf(path: Path, budget: int = 10**9, usable: Usable = anywhere) -> Shelf:
    folder = Folder(path)
    folder.set_budget(budget)
    return Shelf(folder, HERE, usable)


def check_everything(folder: Folder) -> int:
    """Whatever can be read is right; returns how many entries there are."""
    entries = folder.entries()
    for meta in entries:
        candidate = Candidate(meta=meta, at_least=meta.n_tokens)
        found = Shelf(folder, HERE, anywhere).read(candidate)
        if found is not None:
            assert len(found.tokens) == meta.n_tokens
            assert np.array_equal(found.state, state_of(found.tokens))
    return len(entries)
