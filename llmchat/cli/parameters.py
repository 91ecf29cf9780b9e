"""Kinds of values on the command line that click does not know: durations, models, chats, layers.

Owns their parsing and their completion in the shell. Completion answers from the disk alone and
never fails: a Tab must not print.
"""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from llmchat.cli.amounts import parse_duration, parse_rate
from llmchat.errors import LlmchatError
from llmchat.text import say
from llmchat.text.cleaning import clean_line

if TYPE_CHECKING:
    Kind = click.ParamType[Any]
else:
    Kind = click.ParamType  # generic in click's newest releases only


class Number(Kind):
    """A finite number within bounds; click alone lets nan and inf through."""

    def __init__(self, low: float = -math.inf, high: float = math.inf) -> None:
        self.low = low
        self.high = high
        self.name = "number" if math.isinf(high) else f"{low:g}..{high:g}"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, or a usage error."""
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(say("cli.not_finite", value=value), param, ctx)
        if not self.low <= number <= self.high:
            bounds = f"{self.low:g}" + ("" if math.isinf(self.high) else f" to {self.high:g}")
            self.fail(say("cli.out_of_bounds", value=value, bounds=bounds), param, ctx)
        return number


class Whole(Kind):
    """A whole number within bounds, named N in the help."""

    name = "n"

    def __init__(self, low: int, high: int | None = None) -> None:
        self._range = click.IntRange(low, high)

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The number, or a usage error."""
        return int(self._range.convert(value, param, ctx))  # type: ignore[arg-type]


class Counts(Kind):
    """Whole numbers from 1 on, each larger than the one before, with commas between: `1,2,4`."""

    name = "n,n..."

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers, or a usage error."""
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        numbers = [int(word) for word in words if word.strip().isdecimal()]
        ordered = all(one < two for one, two in pairwise([0, *numbers, self._most + 1]))
        if len(numbers) != len(words) or not ordered:
            self.fail(say("cli.not_counts", value=value, most=self._most), param, ctx)
        return tuple(numbers)


class Duration(Kind):
    """Seconds, written `300`, `5m`, `1h30m` or `-1`."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds, or a usage error."""
        try:
            return parse_duration(str(value))
        except ValueError:
            self.fail(say("cli.not_a_duration", value=value), param, ctx)


class Rate(Kind):
    """Bytes a second, written `500K`, `2MiB` or `1000`."""

    name = "rate"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Bytes a second, or a usage error."""
        if isinstance(value, float):
            return value
        try:
            return parse_rate(str(value))
        except ValueError:
            self.fail(say("cli.not_a_rate", value=value), param, ctx)


class Layers(Kind):
    """How many layers go to the GPU: `auto`, `all` or a number."""

    name = "auto|all|N"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """The word or the number, or a usage error."""
        text = str(value).lower()
        if text in ("auto", "all"):
            return text
        if not text.isdecimal():
            self.fail(say("cli.not_layers", value=value), param, ctx)
        return int(text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The two words."""
        return [CompletionItem(word) for word in ("auto", "all") if word.startswith(incomplete)]


class ModelName(Kind):
    """A model: a name, an alias, a reference of a hub, or a path."""

    name = "model"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of the models on this disk."""
        from llmchat.cli.parts import open_models

        try:
            names = [clean_line(model.name) for model in open_models().list()]
        except (LlmchatError, OSError):
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class AnyModelName(ModelName):
    """A model of this disk, or one that a short name stands for."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of the models on this disk, then short names."""
        from llmchat.cli.parts import open_models

        here = super().shell_complete(ctx, param, incomplete)
        try:
            short = open_models().shortnames
        except LlmchatError:
            return here
        known = {item.value for item in here}
        fresh = [name for name in short if name.startswith(incomplete) and name not in known]
        return [*here, *(CompletionItem(name) for name in fresh)]


class PresetName(Kind):
    """A preset: the name of its file."""

    name = "preset"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The presets there are."""
        from llmchat.cli.parts import open_settings

        names = open_settings(quiet=True).presets.names()
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class PersonaName(Kind):
    """A persona: the name of its file."""

    name = "persona"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The personas there are."""
        from llmchat.cli.parts import open_settings

        names = open_settings(quiet=True).personas.names()
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class ChatId(Kind):
    """A conversation: its id, the beginning of it, or its exact title."""

    name = "chat"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Ids of the conversations used last, each with its title."""
        import asyncio

        from llmchat.cli.parts import open_runtime

        async def last() -> list[CompletionItem]:
            async with open_runtime("completion") as runtime:
                return [
                    CompletionItem(chat.id, help=clean_line(chat.title, 60))
                    for chat in await runtime.chats.list(limit=50, include_cli=True)
                    if chat.id.lower().startswith(incomplete.lower())
                ]

        try:
            return asyncio.run(last())
        except (LlmchatError, OSError):
            return []
