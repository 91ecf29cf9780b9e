"""A model as a store holds it, before it has a name that is unique here.

Owns the value that every store yields and a file's identity. Refuses headers (`llmchat.gguf`).
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llmchat.library.variants import SHARD

_MIB = 1024 * 1024
MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class Found:
    """One runnable model in one store: whole, all shards here."""

    name: str
    """What the store calls it: `owner/repo:Q4_K_M`, or a path."""
    paths: tuple[str, ...]
    """Absolute; shards in order."""
    size: int
    """Bytes over `paths` and the projector."""
    source: str
    digests: tuple[str, ...] = ()
    """The content's sha256 for each path, where the store names it."""
    projector: str | None = None
    projector_digest: str = ""
    also: tuple[str, ...] = ()
    """Other names that mean this model: its file's name, a digest."""
    missing: int = 0
    """Shards that are not here: a set that is not whole can be named, and not run."""
    extras: tuple[str, ...] = ()
    """Files beside the weights that are this model's alone, such as Ollama's manifest."""

    def identity(self, of: Callable[[str], str] | None = None) -> str:
        """64 hex digits for this content (docs/architecture.md, contracts: Model identity).

        `of` gives the identity of a file that no store names; `stand_in` by default.

        Raises:
            OSError: such a file cannot be read.
        """
        read = of or stand_in
        pieces = list(self.digests) if self.digests else [read(path) for path in self.paths]
        if self.projector:
            pieces.append(self.projector_digest or read(self.projector))
        if len(pieces) == 1:
            return pieces[0]
        return hashlib.sha256("\n".join(pieces).encode()).hexdigest()


def stand_in(path: str) -> str:
    """An identity for a file whose content nobody named: size, mtime, first and last MiB.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        facts = os.fstat(file.fileno())
        digest = hashlib.sha256(b"%d %d\n" % (facts.st_size, facts.st_mtime_ns))
        digest.update(file.read(_MIB))
        file.seek(max(0, facts.st_size - _MIB))
        digest.update(file.read(_MIB))
    return digest.hexdigest()


IsGguf = Callable[[str], bool]
"""Tells a GGUF from other files; stores are handed one that remembers."""


def is_gguf(path: str) -> bool:
    """Whether a regular file begins as a GGUF does."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return file.read(4) == MAGIC
    except OSError:
        return False


def shard_siblings(path: str) -> tuple[str, ...] | None:
    """Every shard of the model that `path` is one of, in order; None when one is missing.

    A file that is no shard is its own only one.
    """
    folder, name = os.path.split(path)
    found = SHARD.fullmatch(re.sub(r"\.gguf$", "", name, flags=re.IGNORECASE))
    if found is None:
        return (path,)
    extension = name[-len(".gguf") :]
    count = int(found["count"])
    paths = tuple(
        os.path.join(folder, f"{found['stem']}-{index:05}-of-{count:05}{extension}")
        for index in range(1, min(count, 1000) + 1)
    )
    return paths if count and all(os.path.isfile(shard) for shard in paths) else None


def total_size(paths: Iterable[str]) -> int:
    """Bytes of files, links followed."""
    return sum(os.stat(path).st_size for path in paths)
