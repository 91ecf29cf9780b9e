"""Shapes of models, remembered by their content: what a judgement needs, read once.

Owns one small file of ours for each model, as `headers.py` for descriptions. Refuses networks: who
asks a hub hands over how its bytes are read.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

import llmchat
from llmchat.gguf import Header, Shape, read_header, shape_of
from llmchat.whole_file import write_whole

_VERSION: Final = f"{llmchat.__version__} {' '.join(Shape.__struct_fields__)}"
"""What reads otherwise is read anew."""


class _Cached(Struct, frozen=True):
    version: str
    shape: Shape


class Shapes:
    """Shapes by content. `folder` is ours; it need not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of_files(self, identity: str, paths: Sequence[str]) -> Shape:
        """The shape of a model on this disk.

        Raises:
            ModelFileError: no GGUF, incomplete, or out of bounds.
        """
        return self.remembered(identity, lambda: [read_header(path) for path in paths])

    def remembered(self, identity: str, read: Callable[[], Sequence[Header]]) -> Shape:
        """The shape of the content that 64 hex digits name; `read` is called when it is new.

        Raises:
            Whatever `read` raises.
        """
        path = self._folder / identity
        try:
            cached = msgspec.json.decode(path.read_bytes(), type=_Cached)
            if cached.version == _VERSION:
                return cached.shape
        except (OSError, msgspec.DecodeError, RecursionError):
            pass  # not there, or not ours: it is read anew
        shape = shape_of(read())
        self._save(path, shape)
        return shape

    def _save(self, path: Path, shape: Shape) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, msgspec.json.encode(_Cached(_VERSION, shape)), lasting=False)
        except OSError:
            return  # a cache that cannot be written is only slow
