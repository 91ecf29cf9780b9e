"""`llmchat stop`: unload models. One that others are using is stopped only after a yes."""

import asyncio
from typing import TYPE_CHECKING

import click

from llmchat.cli.output import ask, can_ask, note
from llmchat.cli.parameters import Kind
from llmchat.cli.parts import open_models, open_runtime
from llmchat.errors import ExitCode, LlmchatError, NotFound, UsageError
from llmchat.text import say

if TYPE_CHECKING:
    from llmchat.core.runtime import Runtime
    from llmchat.engine.protocol import WorkerStatus


class LoadedModel(Kind):
    """The name of a model that is loaded."""

    name = "model"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Names of the live workers' models."""
        from llmchat.cli.commands.ps import live

        names = {status.model for status in asyncio.run(live())}
        return [
            click.shell_completion.CompletionItem(name)
            for name in sorted(names)
            if name.startswith(incomplete)
        ]


@click.command(help=say("cli.about_stop"))
@click.argument("models", nargs=-1, type=LoadedModel(), metavar="[MODEL]...")
@click.option("-a", "--all", "everything", is_flag=True, help=say("cli.opt_all"))
@click.option("--force", is_flag=True, help=say("cli.opt_force"))
def stop(models: tuple[str, ...], everything: bool, force: bool) -> int:
    """Waits until each is gone: its memory is free when the command ends."""
    if bool(models) == everything:
        raise UsageError("cli.stop_what")
    busy = asyncio.run(_stop(models, force))
    for status in busy:
        note(say("cli.is_busy", name=status.model, clients=", ".join(status.clients) or "-"))
    if not busy:
        return ExitCode.OK
    if not can_ask():
        raise LlmchatError("cli.stop_needs_force")
    if (ask(say("cli.stop_ask")) or "n").lower() not in ("y", "yes"):
        return ExitCode.FAILED
    asyncio.run(_end(busy, force=True))
    return ExitCode.OK


async def _stop(models: tuple[str, ...], force: bool) -> "list[WorkerStatus]":
    """Stop what is meant; the ones that are busy."""
    async with open_runtime("stop", save=False) as runtime:
        live = list(await runtime.models.live())
        meant = [one for ref in models for one in _meant(ref, live)] if models else live
        if not meant:
            note(say("cli.nothing_loaded"))
        return await _end_in(runtime, meant, force)


async def _end(targets: "list[WorkerStatus]", *, force: bool) -> None:
    async with open_runtime("stop", save=False) as runtime:
        await _end_in(runtime, targets, force)


async def _end_in(
    runtime: "Runtime", targets: "list[WorkerStatus]", force: bool
) -> "list[WorkerStatus]":
    busy = []
    for status in targets:
        if await runtime.models.stop(status.pid, force=force):
            note(say("cli.stopped", name=status.model))
        else:
            busy.append(status)
    return busy


def _meant(ref: str, live: "list[WorkerStatus]") -> "list[WorkerStatus]":
    """The live ones that `ref` names: by what `ps` shows, else by what the name resolves to.

    Raises:
        NotFound: no such model is loaded.
    """
    named = [status for status in live if ref in (status.model, status.path)]
    if not named:
        try:
            identity = open_models().resolve(ref).identity
        except NotFound:  # deleted since it was loaded, or never there
            identity = ""
        named = [status for status in live if identity and status.identity == identity]
    if not named:
        raise NotFound("cli.not_loaded", name=ref)
    return named
