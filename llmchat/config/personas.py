"""Personas: a system prompt, sampling and load settings under a name, each a file to be shared.

Owns `<config>/personas/NAME.toml`: finding and reading. Strict about names and forgiving about
mistakes like `config.toml`: what is wrong is a sentence, what is right is used.
"""

import re
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from llmchat.config.reading import read_persona_table
from llmchat.config.schema import PersonaTable
from llmchat.errors import NotFound
from llmchat.text import say

_NAME = re.compile(r"\w[\w .-]{0,63}")
"""No name leaves the folder, or hides in it."""


class Persona(Struct, frozen=True, kw_only=True):
    """One file. `problems`: what is wrong with it, in sentences."""

    name: str
    path: str
    table: PersonaTable = PersonaTable()
    problems: tuple[str, ...] = ()


class Personas:
    """The files of one folder, read again when they change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, tuple[tuple[int, int], Persona]] = {}

    def names(self) -> list[str]:
        """The names there are, in order."""
        try:
            found = [path.stem for path in self.folder.glob("*.toml")]
        except OSError:
            return []
        return sorted(name for name in found if _NAME.fullmatch(name))

    def get(self, name: str) -> Persona:
        """One persona, whatever is wrong inside it.

        Raises:
            NotFound: there is no such file, or no file can have that name.
        """
        path = self.folder / f"{name}.toml"
        stamp = _stamp(path) if _NAME.fullmatch(name) else None
        if stamp is None:
            known = ", ".join(self.names()) or say("config.no_personas")
            raise NotFound("config.no_persona", name=name, known=known, folder=self.folder)
        cached = self._read.get(name)
        if cached is None or cached[0] != stamp:
            table, problems = read_persona_table(path)
            cached = stamp, Persona(name=name, path=str(path), table=table, problems=problems)
            self._read[name] = cached
        return cached[1]


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
