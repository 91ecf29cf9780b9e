"""The settings that a conversation may have of its own, as lines to edit.

One table: where a setting lies in ChatSettings, what values it takes, and whether a change means
that the model is loaded again. Pure: reads and writes values, never a widget.
"""

from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from llmchat.text import say
from llmchat.values import ChatSettings

Kind = Literal["number", "count", "thinking", "layers"]


@dataclass(frozen=True, slots=True)
class Field:
    """One setting. Its label is `tui.set_KEY` with the dot as an underscore."""

    key: str
    """Dotted as in `Resolved.sources`: `sampling.top_k`."""
    kind: Kind
    least: float = 0
    most: float = float("inf")
    reload: bool = False
    """Whether the model must be loaded again for it."""

    @property
    def label(self) -> str:
        """Its name for a person."""
        return say(f"tui.set_{self.key.replace('.', '_')}")

    @property
    def id(self) -> str:
        """Its widget's id."""
        return self.key.replace(".", "-")


FIELDS: tuple[Field, ...] = (
    Field("sampling.temperature", "number", 0, 10),
    Field("sampling.top_k", "count", 0, 1_000_000),
    Field("sampling.top_p", "number", 0, 1),
    Field("sampling.min_p", "number", 0, 1),
    Field("sampling.repeat_penalty", "number", 0, 10),
    Field("max_tokens", "count", 1, 10_000_000),
    Field("sampling.seed", "count", 0, 2**32 - 1),
    Field("thinking", "thinking"),
    Field("wants.n_ctx", "count", 16, 100_000_000, reload=True),
    Field("wants.n_gpu_layers", "layers", 0, 10_000, reload=True),
)

_THINKING: dict[str, bool | str] = {
    "on": True,
    "off": False,
    "low": "low",
    "medium": "medium",
    "high": "high",
}


def read(settings: ChatSettings, key: str) -> object:
    """The value at a dotted key; None = unset."""
    outer, _, inner = key.partition(".")
    value: object = getattr(settings, outer)
    return getattr(value, inner) if inner else value


def write(settings: ChatSettings, key: str, value: object) -> ChatSettings:
    """The settings with one value changed; None unsets it."""
    outer, _, inner = key.partition(".")
    if inner:
        value = replace(getattr(settings, outer), **{inner: value})
    return replace(settings, **{outer: value})


def as_text(value: object) -> str:
    """A value as a person types it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def parse(field: Field, text: str) -> object:
    """The value that a person means; None for no text: the layer below decides.

    Raises:
        ValueError: with the sentence that says what would do.
    """
    words = text.strip().lower().replace(",", ".")
    if not words:
        return None
    if field.kind == "thinking":
        if words not in _THINKING:
            raise ValueError(say("tui.set_bad_choice", choices=", ".join(_THINKING)))
        return _THINKING[words]
    if field.kind == "layers" and words in {"auto", "all"}:
        return words
    return _number(field, words)


def _number(field: Field, words: str) -> float | int:
    try:
        value = float(words) if field.kind == "number" else int(words)
    except ValueError:
        value = float("nan")
    if not field.least <= value <= field.most:
        raise ValueError(say("tui.set_bad_number", least=f"{field.least:g}", most=_most(field)))
    return value


def _most(field: Field) -> str:
    return f"{field.most:,.0f}" if field.most >= 1000 else f"{field.most:g}"
