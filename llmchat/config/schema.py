"""Everything that `config.toml` may hold: tables, fields, types and limits.

One sentence about each field is in the catalogue under `config.about_TABLE_FIELD`; docs/config.md
is made from both. A new setting is a field here and a sentence there.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from llmchat.config.sizes import SIZE
from llmchat.values import ChatSettings, Sampling, Wants


class ChatTable(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[chat]`: the fields of `ChatSettings` by the same names, sampling and load apart."""

    model: str | None = None
    persona: str | None = None
    preset: str | None = None
    system: str | None = None
    thinking: bool | Literal["low", "medium", "high"] | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    stop_tokens: tuple[int, ...] | None = None
    ignore_eos: bool | None = None
    lora: tuple[str, ...] | None = None
    control_vectors: tuple[str, ...] | None = None
    speculation: Literal["off", "ngram"] | None = None
    context_policy: Literal["stop", "drop-middle", "rolling", "ask"] | None = None
    keep_alive: float | None = None
    titles: Literal["words", "model", "off"] = "words"


class LibraryTable(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[library]`: where models are looked for besides the stores that are known."""

    folders: tuple[str, ...] = ()


Bytes = Literal[0] | Annotated[str, Meta(pattern=SIZE)]
"""A size with its unit, or 0 for none."""


class MemoryTable(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[memory]`: what holds for every model's worker."""

    kv_cache_disk: Bytes = "4 GiB"


class UiTable(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[ui]`: the chat screen."""

    theme: str | None = None


class AnswerTable(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a model is asked and loaded: what a model's table, a persona and a preset share."""

    thinking: bool | Literal["low", "medium", "high"] | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    lora: tuple[str, ...] | None = None
    control_vectors: tuple[str, ...] | None = None
    speculation: Literal["off", "ngram"] | None = None
    context_policy: Literal["stop", "drop-middle", "rolling", "ask"] | None = None
    keep_alive: float | None = None
    sampling: Sampling = Sampling()
    load: Wants = Wants()

    def as_layer(self) -> ChatSettings:
        """As a layer of chat settings."""
        names = set(self.__struct_fields__) & set(ChatSettings.__struct_fields__)
        values = {name: getattr(self, name) for name in names}
        return ChatSettings(wants=self.load, **values)


class ModelTable(AnswerTable, frozen=True, kw_only=True, omit_defaults=True):
    """`[models."NAME"]`: what is set whenever that model is used."""

    system: str | None = None
    persona: str | None = None
    preset: str | None = None


class PresetTable(AnswerTable, frozen=True, kw_only=True, omit_defaults=True):
    """`presets/NAME.toml`: sampling and load settings, and what they are for."""

    about: str = ""


class PersonaTable(AnswerTable, frozen=True, kw_only=True, omit_defaults=True):
    """`personas/NAME.toml`: a system prompt, what it is for, and settings or a preset."""

    about: str = ""
    system: str | None = None
    preset: str | None = None


class Settings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole of `config.toml`."""

    chat: ChatTable = ChatTable()
    sampling: Sampling = Sampling()
    load: Wants = Wants()
    library: LibraryTable = LibraryTable()
    memory: MemoryTable = MemoryTable()
    ui: UiTable = UiTable()
    aliases: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """`[keys]`: keys of the chat screen by action, separated by commas; the screen checks both."""
    models: dict[str, ModelTable] = field(default_factory=dict)

    def as_layer(self) -> ChatSettings:
        """What it sets for every chat."""
        chat = self.chat
        return ChatSettings(
            model=chat.model,
            persona=chat.persona,
            preset=chat.preset,
            system=chat.system,
            thinking=chat.thinking,
            max_tokens=chat.max_tokens,
            stop=chat.stop,
            stop_tokens=chat.stop_tokens,
            ignore_eos=chat.ignore_eos,
            lora=chat.lora,
            control_vectors=chat.control_vectors,
            speculation=chat.speculation,
            context_policy=chat.context_policy,
            keep_alive=chat.keep_alive,
            sampling=self.sampling,
            wants=self.load,
        )


TABLES: dict[str, type[Struct]] = {
    "chat": ChatTable,
    "sampling": Sampling,
    "load": Wants,
    "library": LibraryTable,
    "memory": MemoryTable,
    "ui": UiTable,
}
"""The tables with a fixed set of fields."""

MODEL_TABLES: dict[str, type[Struct]] = {"sampling": Sampling, "load": Wants}
"""The tables inside `[models."NAME"]`."""

Limit = tuple[float | UnsetType, float | UnsetType]

LIMITS: dict[str, Limit] = {
    "sampling.temperature": (0, 100),
    "sampling.top_k": (0, UNSET),
    "sampling.top_p": (0, 1),
    "sampling.min_p": (0, 1),
    "sampling.typical_p": (0, 1),
    "sampling.xtc_probability": (0, 1),
    "sampling.xtc_threshold": (0, 1),
    "sampling.dynatemp_range": (0, UNSET),
    "sampling.repeat_last_n": (-1, UNSET),
    "sampling.repeat_penalty": (0, UNSET),
    "sampling.mirostat": (0, 2),
    "sampling.seed": (0, 2**32 - 1),
    "load.n_ctx": (1, 2**31 - 1),
    "load.n_threads": (1, 1024),
    "load.n_batch": (1, 2**31 - 1),
    "load.n_ubatch": (1, 2**31 - 1),
    "load.n_cpu_moe": (0, UNSET),
    "chat.max_tokens": (1, UNSET),
    "chat.keep_alive": (-1, UNSET),
}
"""The least and the most that a number may be."""


def fields(table: type[Struct]) -> dict[str, object]:
    """The types of a table's plain fields, by name."""
    import msgspec

    return {
        found.name: found.type
        for found in msgspec.structs.fields(table)
        if not (isinstance(found.type, type) and issubclass(found.type, Struct))
    }


def every_key() -> dict[str, object]:
    """The type of each fixed setting by its dotted key, e.g. `sampling.temperature`."""
    return {
        f"{name}.{entry}": kind
        for name, table in TABLES.items()
        for entry, kind in fields(table).items()
    }
