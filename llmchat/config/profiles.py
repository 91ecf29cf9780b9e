"""Personas and presets: settings under a name, each a file to be shared.

A preset is how to sample and how to load; a persona is a system prompt, and may name a preset. Owns
`<config>/personas/NAME.toml` and `<config>/presets/NAME.toml`: finding and reading. Strict about
names and forgiving about mistakes like `config.toml`: what is wrong is a sentence, what is right is
used.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from msgspec import Struct

from llmchat.config.reading import read_table
from llmchat.config.schema import AnswerTable, PersonaTable, PresetTable
from llmchat.errors import NotFound
from llmchat.text import say

T = TypeVar("T", bound=AnswerTable)

_NAME = re.compile(r"\w[\w .-]{0,63}")
"""No name leaves the folder, or hides in it."""


class Profile(Struct, Generic[T], frozen=True, kw_only=True):
    """One file. `problems`: what is wrong with it, in sentences."""

    name: str
    path: str
    table: T
    problems: tuple[str, ...] = ()


class Profiles(Generic[T]):
    """The files of one folder, read again when they change. `kind`: `persona` or `preset`."""

    def __init__(self, folder: Path, table: type[T], kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self._table = table
        self._read: dict[str, tuple[tuple[int, int], Profile[T]]] = {}

    def names(self) -> list[str]:
        """The names there are, in order."""
        try:
            found = [path.stem for path in self.folder.glob("*.toml")]
        except OSError:
            return []
        return sorted(name for name in found if _NAME.fullmatch(name))

    def get(self, name: str) -> Profile[T]:
        """One of them, whatever is wrong inside it.

        Raises:
            NotFound: there is no such file, or no file can have that name.
        """
        path = self.folder / f"{name}.toml"
        stamp = _stamp(path) if _NAME.fullmatch(name) else None
        if stamp is None:
            known = ", ".join(self.names()) or say("config.no_profiles")
            raise NotFound(f"config.no_{self.kind}", name=name, known=known, folder=self.folder)
        cached = self._read.get(name)
        if cached is None or cached[0] != stamp:
            table, problems = read_table(path, self._table)
            cached = stamp, Profile(name=name, path=str(path), table=table, problems=problems)
            self._read[name] = cached
        return cached[1]


def personas(folder: Path) -> Profiles[PersonaTable]:
    """The personas of a folder."""
    return Profiles(folder, PersonaTable, "persona")


def presets(folder: Path) -> Profiles[PresetTable]:
    """The presets of a folder."""
    return Profiles(folder, PresetTable, "preset")


def told_once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Passes each sentence on once: settings are asked for again and again."""
    told: set[str] = set()

    def once(sentence: str) -> None:
        if sentence not in told:
            told.add(sentence)
            tell(sentence)

    return once


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
