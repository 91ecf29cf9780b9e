"""Every setting in force, and the layer that set it.

Owns the order of the layers and their merge, field by field:

    flag > message > conversation > persona > preset > model table
        > LLMCHAT_* > config.toml > the default

What is still unset after that is the model's own metadata's to say, then llama.cpp's: the worker
applies those, since only it has read the file. Needs neither asyncio nor the store.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from llmchat.config import profiles
from llmchat.config.reading import (
    Loaded,
    checked,
    nearest,
    parse_text,
    read_environment,
    read_file,
)
from llmchat.config.schema import (
    MODEL_TABLES,
    TABLES,
    AnswerTable,
    ModelTable,
    Settings,
    every_key,
    fields,
)
from llmchat.config.sizes import in_bytes
from llmchat.config.writing import set_value
from llmchat.errors import ConfigError, NotFound
from llmchat.paths import Places
from llmchat.text import say
from llmchat.values import (
    LLAMA_CPP_SAMPLING,
    NOTHING_SET,
    ChatSettings,
    Conversation,
    Origin,
    Wants,
)

if TYPE_CHECKING:
    from llmchat.engine.protocol import Facts

FLAG, MESSAGE, CONVERSATION = "flag", "message", "conversation"
PERSONA, PRESET = "persona", "preset"
PER_MODEL, ENVIRONMENT, FILE, DEFAULT = "per-model", "environment", "config.toml", "default"
MODEL, LLAMA_CPP, AUTO = "model", "llama.cpp", "auto"

DEFAULTS = ChatSettings(context_policy="drop-middle", keep_alive=300.0)
"""What holds when nobody set anything."""

AnyTable = TypeVar("AnyTable", bound=AnswerTable)

Layers = Sequence[tuple[str, ChatSettings]]


class Resolved(Struct, frozen=True, kw_only=True):
    """Settings after the merge. `sources`: dotted key to the layer that set it."""

    values: ChatSettings
    sources: dict[str, str]

    def origins(self) -> dict[str, Origin]:
        """Each value with its source, as it is stored with a reply."""
        flat = _flat(self.values)
        return {key: Origin(value=flat[key], source=at) for key, at in self.sources.items()}


class SettingFacts(Struct, frozen=True, kw_only=True):
    """One line of `config list`: what it is, what it is now, and why."""

    key: str
    about: str
    value: object
    source: str


def merge(layers: Layers) -> Resolved:
    """Field by field, the first layer that sets one wins."""
    merged: dict[str, object] = {}
    sources: dict[str, str] = {}
    for name, layer in layers:
        for key, value in _flat(layer).items():
            if key not in merged:
                merged[key] = value
                sources[key] = name
    return Resolved(values=_nested(merged), sources=sources)


def with_engine_defaults(found: Resolved, facts: "Facts | None" = None) -> Resolved:
    """`found`, and below it what the worker will add: for showing, never for sending.

    Args:
        found: the user's layers.
        facts: of the loaded model; its context and layers are shown as what `auto` chose.
    """
    below = [(LLAMA_CPP, ChatSettings(sampling=LLAMA_CPP_SAMPLING))]
    if facts is not None:
        placed = Wants(n_ctx=facts.n_ctx, n_gpu_layers=facts.placement.n_gpu_layers)
        below = [(MODEL, ChatSettings(sampling=facts.sampling)), *below]
        below.append((AUTO, ChatSettings(wants=placed)))
    own = merge(below)
    together = merge([("", found.values), ("", own.values)])
    return Resolved(values=together.values, sources=own.sources | found.sources)


def _flat(settings: ChatSettings) -> dict[str, object]:
    """The fields that are set, by dotted key."""
    flat: dict[str, object] = {}
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, Struct):
            for inner in value.__struct_fields__:
                if getattr(value, inner) is not None:
                    flat[f"{name}.{inner}"] = getattr(value, inner)
        elif value is not None:
            flat[name] = value
    return flat


def _nested(flat: dict[str, object]) -> ChatSettings:
    return msgspec.convert(tree_of(flat), ChatSettings)


def tree_of(flat: Mapping[str, object]) -> dict[str, object]:
    """Dotted keys as tables."""
    tree: dict[str, object] = {}
    for key, value in flat.items():
        outer, _, inner = key.partition(".")
        if inner:
            table = tree.get(outer)
            if not isinstance(table, dict):
                table = tree[outer] = {}
            table[inner] = value
        else:
            tree[outer] = value
    return tree


class _Aliases(Mapping[str, str]):
    """The aliases of whatever was read last, for those who keep it."""

    def __init__(self, now: Callable[[], Mapping[str, str]]) -> None:
        self._now = now

    def __getitem__(self, name: str) -> str:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())


class SettingsService:
    """Reading and writing settings. `problems` are sentences about what is wrong with them."""

    def __init__(
        self, places: Places, environ: Mapping[str, str], flags: ChatSettings = NOTHING_SET
    ) -> None:
        self._path = places.config_file
        self._kv = places.kv
        self._flags = flags
        self._environment = read_environment(environ)
        self._file = read_file(self._path)
        self._aliases = _Aliases(lambda: self._file.settings.aliases)
        self.personas = profiles.personas(places.personas)
        self.presets = profiles.presets(places.presets)
        self.on_problem: Callable[[str], None] = lambda _sentence: None
        """Told what is wrong with a persona or a preset that is used."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the file and the environment, in sentences."""
        return self._file.problems + self._environment.problems

    @property
    def settings(self) -> Settings:
        """The file's settings: aliases, folders, theme and the rest that is no chat setting."""
        return self._file.settings

    @property
    def aliases(self) -> Mapping[str, str]:
        """The user's own names for models: always those of the file as it was read last."""
        return self._aliases

    @property
    def theme(self) -> str | None:
        """The theme's name, the environment before the file."""
        return self._environment.settings.ui.theme or self._file.settings.ui.theme

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders with models, the environment before the file."""
        return self._environment.settings.library.folders or self._file.settings.library.folders

    @property
    def kv_cache_disk(self) -> int:
        """Bytes that saved KV states may take; 0: none are saved."""
        size, _ = self._plain("memory", "kv_cache_disk")
        assert isinstance(size, str | int)
        return in_bytes(size)

    def reload(self) -> None:
        """Read the file again: an editor or another process may have changed it."""
        self._file = read_file(self._path)

    def layers(
        self,
        conversation: Conversation | None = None,
        once: ChatSettings = NOTHING_SET,
        model: str | None = None,
    ) -> Resolved:
        """The settings in force for a message of a conversation.

        Args:
            conversation: None before there is one.
            once: what this message alone sets.
            model: the resolved name of the model, when it is known; else the one that is set.
        """
        above = [(FLAG, self._flags), (MESSAGE, once)]
        if conversation is not None:
            above.append((CONVERSATION, conversation.settings))
        below = [
            (ENVIRONMENT, self._environment.settings.as_layer()),
            (FILE, self._file.settings.as_layer()),
            (DEFAULT, DEFAULTS),
        ]
        wanted = merge([*above, *below]).values.model
        tables = self._file.settings.models
        names = [name for name in (model, wanted) if name in tables]
        below[:0] = [(PER_MODEL, tables[str(name)].as_layer()) for name in names[:1]]
        persona = merge([*above, *below]).values.persona
        if persona is not None:
            above.append((PERSONA, self._profile(self.personas, persona)))
        preset = merge([*above, *below]).values.preset
        if preset is not None:
            above.append((PRESET, self._profile(self.presets, preset)))
        return merge([*above, *below])

    def _profile(self, known: "profiles.Profiles[AnyTable]", name: str) -> ChatSettings:
        """What a persona or a preset sets: nothing when its file is gone."""
        try:
            found = known.get(name)
        except NotFound as error:
            self.on_problem(error.sentence)
            return NOTHING_SET
        for problem in found.problems:
            self.on_problem(problem)
        return found.table.as_layer()

    def get(self, key: str) -> SettingFacts:
        """One setting as it is in force outside of any conversation.

        Raises:
            NotFound: there is no such setting.
        """
        path, _ = self._find(key)
        if path[0] in ("aliases", "models"):
            value = self._in_file(path)
            source = DEFAULT if value is None else FILE
            return SettingFacts(key=key, about="", value=value, source=source)
        return next(facts for facts in self.describe() if facts.key == ".".join(path))

    def _in_file(self, path: tuple[str, ...]) -> object:
        """An alias, or a field of a model's table, as the file has it."""
        found: object = self._file.settings
        for name in path:
            found = found.get(name) if isinstance(found, dict) else getattr(found, name, None)
        return found

    def set(self, key: str, text: str | None) -> None:
        """Write one setting to the file; None removes it.

        Raises:
            NotFound: there is no such setting.
            ConfigError: the value does not fit, or the file cannot be written.
        """
        path, kind = self._find(key)
        value = None if text is None else checked(".".join(path), parse_text(text, kind), kind)
        set_value(self._path, path, value)
        self.reload()
        if path == ("memory", "kv_cache_disk"):
            self._set_kv_budget()

    def set_alias(self, name: str, target: str | None) -> None:
        """Give a name to a reference; None takes it away.

        Raises:
            ConfigError: the file cannot be written.
        """
        set_value(self._path, ("aliases", name), target)
        self.reload()

    def copy_model_table(self, model: str | None, name: str) -> None:
        """Let `name` begin with a model's own settings; None takes the table of `name` away.

        Raises:
            ConfigError: the file cannot be written.
        """
        table = None if model is None else self._file.settings.models.get(model, ModelTable())
        if table is not None or name in self._file.settings.models:
            value = None if table is None else msgspec.to_builtins(table)
            set_value(self._path, ("models", name), value)
            self.reload()

    def _set_kv_budget(self) -> None:
        """Workers that run obey at once; the folder itself carries the budget."""
        from llmchat.engine.disk import Folder

        try:
            Folder(self._kv).set_budget(self.kv_cache_disk)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError("paths.unwritable", path=self._kv, reason=reason) from error

    def describe(self) -> list[SettingFacts]:
        """Every setting with its value and source; per-model tables and aliases last."""
        resolved = self.layers()
        flat = _flat(resolved.values)
        rows = []
        for key in every_key():
            table, _, name = key.partition(".")
            inner = {"chat": name, "load": f"wants.{name}"}.get(table, key)
            value: object = flat.get(inner)
            source = resolved.sources.get(inner, DEFAULT)
            if inner not in flat:
                value, source = self._plain(table, name)
            about = say(f"config.about_{table}_{name}")
            rows.append(SettingFacts(key=key, about=about, value=value, source=source))
        rows += [
            SettingFacts(key=f"aliases.{name}", about="", value=value, source=FILE)
            for name, value in self._file.settings.aliases.items()
        ]
        return rows

    def _plain(self, table: str, name: str) -> tuple[object, str]:
        """A setting that is not a chat's, with its source."""
        layers: list[tuple[str, Loaded]] = [(ENVIRONMENT, self._environment), (FILE, self._file)]
        default = getattr(TABLES[table](), name)
        for source, loaded in layers:
            value = getattr(getattr(loaded.settings, table), name)
            if value != default:
                return value, source
        return default, DEFAULT

    def _find(self, key: str) -> tuple[tuple[str, ...], object]:
        """The place of a key in the file, and its type.

        A field's name alone will do where only one table has it.
        """
        known = every_key()
        key = key.replace("wants.", "load.", 1) if key.startswith("wants.") else key
        whole = [name for name in known if name == key or name.endswith(f".{key}")]
        if len(whole) == 1:
            return tuple(whole[0].split(".")), known[whole[0]]
        path = _split(key)
        if len(path) == 2 and path[0] == "aliases":
            return path, str
        if len(path) >= 3 and path[0] == "models":
            inner: dict[str, object] = dict(fields(ModelTable))
            for table, kind in MODEL_TABLES.items():
                inner |= {f"{table}.{name}": at for name, at in fields(kind).items()}
            if (name := ".".join(path[2:])) in inner:
                return path, inner[name]
        raise NotFound("config.no_setting", key=key, near=nearest(key, list(known)))


def _split(key: str) -> tuple[str, ...]:
    """A dotted key with quoted parts, as TOML reads it.

    Raises:
        ConfigError: it is no key.
    """
    try:
        data: object = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("config.bad_key", key=key) from error
    path = []
    while isinstance(data, dict):
        (name, data), *_ = data.items()
        path.append(name)
    return tuple(path)
