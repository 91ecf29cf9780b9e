"""`llmchat ps`: the models that are loaded, and who uses them."""

import asyncio
from typing import TYPE_CHECKING

import click

from llmchat.cli.amounts import size, span
from llmchat.cli.output import answer_json, table
from llmchat.cli.parts import open_runtime
from llmchat.text import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmchat.engine.protocol import WorkerStatus

COLUMNS = ("NAME", "SIZE", "PROCESSOR", "CONTEXT", "SEQUENCES", "KV", "CLIENTS", "UNTIL")


@click.command(help=say("cli.about_ps"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def ps(as_json: bool) -> None:
    """As `ollama ps` prints it, with the clients."""
    loaded = asyncio.run(live())
    if as_json:
        answer_json(loaded)
    else:
        table(COLUMNS, [_row(status) for status in loaded])


async def live() -> "Sequence[WorkerStatus]":
    """Every loaded model of this user."""
    async with open_runtime("ps", save=False) as runtime:
        return await runtime.models.live()


def _row(status: "WorkerStatus") -> tuple[str, ...]:
    return (
        status.model,
        size(status.size),
        status.processor,
        str(status.n_ctx),
        str(status.sequences),
        kv(status),
        ", ".join(status.clients) or "-",
        until(status),
    )


def kv(status: "WorkerStatus") -> str:
    """Cells in use of the pool's, and what of idle conversations lies outside it."""
    used = f"{status.n_ctx_used}/{status.pool}"
    if not status.parked:
        return used
    size_outside = size(status.parked_bytes)
    return say(
        "cli.parked",
        used=status.n_ctx_used,
        pool=status.pool,
        count=status.parked,
        size=size_outside,
    )


def until(status: "WorkerStatus") -> str:
    """When it leaves by itself."""
    if status.state != "idle":
        return say(f"cli.until_{status.state}")
    if status.keep_alive < 0:
        return say("cli.until_forever")
    left = status.keep_alive - status.idle_seconds
    return say("cli.until_in", span=span(left)) if left >= 1 else say("cli.until_now")
