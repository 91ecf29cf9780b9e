"""From a file and the environment to `Settings`: strict about names, forgiving about mistakes.

A mistake never stops the program and never hides: that one key keeps its default, and a problem
names the file, the line, the key and the nearest name that exists.
"""

import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct

from llmchat.config.schema import (
    LIMITS,
    MODEL_TABLES,
    TABLES,
    AnswerTable,
    ModelTable,
    Settings,
    fields,
)
from llmchat.errors import ConfigError
from llmchat.text import say

AnyAnswerTable = TypeVar("AnyAnswerTable", bound=AnswerTable)

PREFIX = "LLMCHAT_"
MAX_BYTES = 1024 * 1024
"""A configuration larger than this is a mistake, and would take seconds to parse."""

SHORT_NAMES = {
    "LLMCHAT_MODEL": "chat.model",
    "LLMCHAT_THEME": "ui.theme",
    "LLMCHAT_KEEP_ALIVE": "chat.keep_alive",
    "LLMCHAT_KV_CACHE_DISK": "memory.kv_cache_disk",
}
"""Variables with a name of their own; every other setting is LLMCHAT_TABLE_FIELD."""


class Loaded(Struct, frozen=True, kw_only=True):
    """What was found, and what was wrong with it, in sentences."""

    settings: Settings = Settings()
    problems: tuple[str, ...] = ()


class _Refused(Exception):
    """A file that cannot be used at all; its text is the sentence."""


def read_file(path: Path) -> Loaded:
    """The settings in `path`; defaults if there is no file, or none that can be read."""
    try:
        data, reader = _parse(path)
    except FileNotFoundError:
        return Loaded()
    except _Refused as refusal:
        return Loaded(problems=(str(refusal),))
    return Loaded(settings=reader.settings(data), problems=tuple(reader.problems))


def read_table(path: Path, table: type[AnyAnswerTable]) -> tuple[AnyAnswerTable, tuple[str, ...]]:
    """A persona's or a preset's settings, and what is wrong with them in sentences."""
    try:
        data, reader = _parse(path)
    except FileNotFoundError:
        return table(), ()
    except _Refused as refusal:
        return table(), (str(refusal),)
    return reader.model("", data, table), tuple(reader.problems)


def _parse(path: Path) -> tuple[dict[str, Any], "_Reader"]:
    """The tables of a TOML file, and a reader that knows its lines."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a FIFO would wait for a writer for ever
            raise _Refused(say("config.not_a_file", path=path))
        if found.st_size > MAX_BYTES:
            raise _Refused(say("config.too_large", path=path))
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _Refused(say("config.unreadable", path=path, reason=reason)) from error
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _Refused(say("config.syntax", path=path, reason=str(error))) from error
    return data, _Reader(lambda key: f"{path}:{_line_of(text, key)}")


def read_environment(environ: Mapping[str, str]) -> Loaded:
    """The settings in `LLMCHAT_*`; variables that name no setting are somebody else's."""
    names = {_variable(f"{table}.{name}"): (table, name) for table in TABLES for name in _of(table)}
    for variable, key in SHORT_NAMES.items():
        table, _, name = key.partition(".")
        names[variable] = (table, name)
    data: dict[str, Any] = {}
    for variable, (table, name) in names.items():
        text = environ.get(variable)
        if text is not None:
            data.setdefault(table, {})[name] = parse_text(text, _of(table)[name])
    reader = _Reader(lambda key: _variable(key))
    return Loaded(settings=reader.settings(data), problems=tuple(reader.problems))


def parse_text(text: str, kind: object) -> object:
    """What a person typed for a field of a type: TOML where that fits, else the text itself.

    Bytes that are no text, as a shell hands them on, become replacement signs.
    """
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    candidates: list[object] = [text]
    try:
        candidates.insert(0, tomllib.loads(f"value = {text}")["value"])
    except (tomllib.TOMLDecodeError, KeyError):
        if "," in text:
            candidates.append([item.strip() for item in text.split(",")])
    candidates.append([text])
    for candidate in candidates:
        try:
            msgspec.convert(candidate, kind, str_keys=True)
        except msgspec.ValidationError:
            continue
        return candidate
    return text


def nearest(name: str, known: list[str]) -> str:
    """A sentence with the name that was probably meant; empty if none is near."""
    import difflib  # for a misspelling alone

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return " " + say("config.nearest", name=close[0]) if close else ""


def checked(key: str, value: object, kind: object) -> object:
    """`value` as the type of a setting, within its limits.

    Raises:
        ConfigError: it is of another type, or out of range.
    """
    try:
        converted: object = msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        reason = str(error).rstrip(".")
        if "matching regex" in reason:  # the only fields with a pattern are sizes
            reason = say("config.not_a_size")
        raise ConfigError("config.bad_value", key=key, value=value, reason=reason) from error
    low, high = LIMITS.get(".".join(key.split(".")[-2:]), (UNSET, UNSET))
    if isinstance(converted, (int, float)) and not isinstance(converted, bool):
        is_low = low is not UNSET and converted < low
        is_high = high is not UNSET and converted > high
        if is_low or is_high or converted != converted:
            least = "" if low is UNSET else low
            most = "…" if high is UNSET else high
            raise ConfigError("config.out_of_range", key=key, value=value, low=least, high=most)
    return converted


class _Reader:
    """Collects what is right and complains about the rest."""

    def __init__(self, where: Callable[[str], str]) -> None:
        """`where` gives the place of a key, for the problem's sentence."""
        self._where = where
        self.problems: list[str] = []

    def settings(self, data: dict[str, Any]) -> Settings:
        found: dict[str, Any] = {}
        for name, value in data.items():
            if name in TABLES and isinstance(value, dict):
                found[name] = TABLES[name](**self._table(f"{name}.", TABLES[name], value))
            elif name == "aliases" and isinstance(value, dict):
                found[name] = self._aliases(value)
            elif name == "keys" and isinstance(value, dict):
                found[name] = self._keys(value)
            elif name == "models" and isinstance(value, dict):
                found[name] = {
                    model: self.model(f"models.{model}.", table, ModelTable)
                    for model, table in value.items()
                    if self._is_table(f"models.{model}", table)
                }
            else:
                self._unknown(name, [*TABLES, "aliases", "keys", "models"])
        return Settings(**found)

    def _table(self, prefix: str, table: type[Struct], data: dict[str, Any]) -> dict[str, Any]:
        known = fields(table)
        found: dict[str, Any] = {}
        for name, value in data.items():
            key = f"{prefix}{name}"
            if name not in known:
                self._unknown(key, [f"{prefix}{other}" for other in known])
                continue
            try:
                found[name] = checked(key, value, known[name])
            except ConfigError as error:
                self._complain(key, error.sentence)
        return found

    def _keys(self, data: dict[str, Any]) -> dict[str, str]:
        found = {}
        for name, value in _flat(data).items():
            keys = [value] if isinstance(value, str) else value
            if isinstance(keys, list) and all(isinstance(key, str) for key in keys):
                found[name] = ",".join(keys)
            else:
                self._complain(f"keys.{name}", say("config.not_text", key=f"keys.{name}"))
        return found

    def _aliases(self, data: dict[str, Any]) -> dict[str, str]:
        for name, value in data.items():
            if not isinstance(value, str):
                self._complain(f"aliases.{name}", say("config.not_text", key=f"aliases.{name}"))
        return {name: value for name, value in data.items() if isinstance(value, str)}

    def model(
        self, prefix: str, data: dict[str, Any], table: type[AnyAnswerTable]
    ) -> AnyAnswerTable:
        """A model's table, a persona or a preset. `prefix`: of its keys, with the dot."""
        inner: dict[str, Any] = {
            name: kind(**self._table(f"{prefix}{name}.", kind, data[name]))
            for name, kind in MODEL_TABLES.items()
            if name in data and self._is_table(f"{prefix}{name}", data[name])
        }
        plain = {name: value for name, value in data.items() if name not in MODEL_TABLES}
        return table(**self._table(prefix, table, plain), **inner)

    def _is_table(self, key: str, value: object) -> bool:
        if not isinstance(value, dict):
            self._complain(key, say("config.not_a_table", key=key))
        return isinstance(value, dict)

    def _unknown(self, key: str, known: list[str]) -> None:
        self._complain(key, say("config.unknown", key=key) + nearest(key, known))

    def _complain(self, key: str, sentence: str) -> None:
        self.problems.append(f"{self._where(key)}: {sentence}")


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"chat": {"new": "f2"}}` as `{"chat.new": "f2"}`: TOML reads a dotted key as a table."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        inner = isinstance(value, dict)
        found |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def _of(table: str) -> dict[str, object]:
    return fields(TABLES[table])


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "_")


def _line_of(text: str, key: str) -> int:
    """The line where a dotted key is set; the first line if it cannot be told."""
    *_, name = key.split(".")
    table = ""
    best = 1
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare.startswith("["):
            table = bare.strip("[]").replace('"', "").replace("'", "").strip()
            if table == key:
                return number
        left = bare.split("=")[0].strip().replace('"', "").replace("'", "")
        if left == name or left.endswith(f".{name}"):  # dotted keys too
            if f"{table}.{left}".lstrip(".") == key:
                return number
            best = number if best == 1 else best
    return best
