"""What a model's header says, remembered by the content's identity.

Owns the description of a whole model (all shards, and what its projector adds) and its cache, one
small file of ours for each model. Refuses to believe the cache of another version of the program.
"""

from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

import llmchat
from llmchat.gguf import BigArray, Description, Header, describe, read_header
from llmchat.values import ModelFile
from llmchat.whole_file import write_whole

_LONGEST = 200
"""Characters of one metadata value that are kept."""


class ModelDescription(Struct, frozen=True, kw_only=True):
    """A model in its header's words. Texts are the file's own: clean them where they are shown."""

    model: ModelFile
    about: Description
    """Over all shards: `parameters` and `size` are sums."""
    metadata: dict[str, str]
    """Every key, as text; long values are cut, arrays say their length."""

    @property
    def vision(self) -> bool:
        """It can look at images: its own words, or a projector beside it."""
        return self.model.projector is not None or "vision" in self.about.capabilities


class _Cached(Struct, frozen=True):
    version: str
    about: Description
    metadata: dict[str, str]


class Headers:
    """Descriptions by model. `folder` is ours; it need not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self, model: ModelFile) -> ModelDescription:
        """The description, from the cache or from the file.

        Raises:
            ModelFileError: no GGUF, incomplete, or out of bounds.
        """
        cached = self._load(model.identity)
        if cached is None:
            cached = _read(model)
            self._save(model.identity, cached)
        return ModelDescription(model=model, about=cached.about, metadata=cached.metadata)

    def _load(self, identity: str) -> _Cached | None:
        try:
            cached = msgspec.json.decode((self._folder / identity).read_bytes(), type=_Cached)
        except (OSError, msgspec.DecodeError, RecursionError):
            return None
        return cached if cached.version == llmchat.__version__ else None

    def _save(self, identity: str, cached: _Cached) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._folder / identity, msgspec.json.encode(cached), lasting=False)
        except OSError:
            return  # a cache that cannot be written is only slow


def _read(model: ModelFile) -> _Cached:
    headers = [read_header(path) for path in model.shards or (model.path,)]
    parts = [describe(header) for header in headers]
    about = replace(
        parts[0],
        parameters=sum(part.parameters for part in parts),
        size=sum(part.size for part in parts),
    )
    return _Cached(llmchat.__version__, about, _metadata(headers[0]))


def _metadata(header: Header) -> dict[str, str]:
    return {key: _text(value) for key, value in header.metadata.items()}


def _text(value: object) -> str:
    if isinstance(value, BigArray):
        return f"[{value.count}]"
    if isinstance(value, tuple):
        return f"[{len(value)}] {', '.join(str(item) for item in value[:8])}"[:_LONGEST]
    text = str(value)
    # Surrogates cannot be written as UTF-8; the text is for reading, not for the engine.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
