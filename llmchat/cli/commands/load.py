"""`llmchat load MODEL`: load a model before it is needed."""

import asyncio
from typing import Any

import click

from llmchat.cli.amounts import size, span
from llmchat.cli.asking import loaded
from llmchat.cli.choosing import find_or_fetch
from llmchat.cli.options import ANSWER, load_options, settings_of
from llmchat.cli.output import note
from llmchat.cli.parameters import ModelName
from llmchat.cli.parts import open_runtime
from llmchat.text import say
from llmchat.values import ChatSettings, ModelFile


@click.command(help=say("cli.about_load"))
@click.argument("model", type=ModelName(), metavar="MODEL")
@click.option(
    *ANSWER["keep_alive"][0], "keep_alive", type=ANSWER["keep_alive"][1],
    help=say("cli.opt_keep_alive"),
)  # fmt: skip
@load_options
def load(model: str, **given: Any) -> None:  # noqa: ANN401 - a dozen flags by name
    """It stays for its keep-alive, whoever loaded it."""
    asyncio.run(_load(find_or_fetch(model), settings_of(given)))


async def _load(model: ModelFile, flags: ChatSettings) -> None:
    async with open_runtime("load", flags=flags, save=False) as runtime:
        settings = runtime.settings.layers(model=model.name).values
        session = await loaded(runtime, model, settings.wants)
        seconds = settings.keep_alive if settings.keep_alive is not None else 300.0
        await session.keep_alive(seconds)
        status = await session.status()
        stays = say("cli.until_forever") if seconds < 0 else span(seconds)
        note(
            say(
                "cli.loaded",
                name=model.name,
                size=size(status.size),
                processor=status.processor,
                n_ctx=session.facts.n_ctx,
                stays=stays,
            )
        )
        await session.aclose()
