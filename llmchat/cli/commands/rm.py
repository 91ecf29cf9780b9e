"""`llmchat rm`: delete models, after saying what that frees."""

from collections.abc import Collection

import click

from llmchat.cli.amounts import size
from llmchat.cli.output import ask, can_ask, note
from llmchat.cli.parameters import ModelName
from llmchat.cli.parts import open_importing, open_models, open_settings
from llmchat.core.models import Removal
from llmchat.errors import ExitCode, UsageError
from llmchat.text import say


@click.command(help=say("cli.help_rm"))
@click.argument("models", nargs=-1, required=True, type=ModelName(), metavar="MODEL...")
@click.option("-y", "--yes", is_flag=True, help=say("cli.opt_yes"))
@click.option("--anywhere", is_flag=True, help=say("cli.opt_anywhere"))
@click.option("--dry-run", is_flag=True, help=say("cli.opt_rm_dry_run"))
def rm(models: tuple[str, ...], yes: bool, anywhere: bool, dry_run: bool) -> int:
    """Every name is looked up before anything is deleted."""
    settings = open_settings()
    library = open_models(settings)
    found = [library.plan_removal(ref, anywhere=anywhere) for ref in models]
    plans = {plan.name: plan for plan in found}.values()
    _say(plans)
    if dry_run:
        return ExitCode.OK
    if not (yes or _agreed()):
        note(say("cli.nothing_done"))
        return ExitCode.FAILED
    for plan in plans:
        library.carry_out(plan)
        if plan.name in settings.aliases:
            open_importing().forget(plan.name)
        done = "cli.rm_forgotten" if plan.source == "name" else "cli.rm_done"
        note(say(done, name=plan.name))
    return ExitCode.OK


def _agreed() -> bool:
    if not can_ask():
        raise UsageError("cli.rm_needs_yes")
    return (ask(say("cli.rm_ask")) or "n").lower() in ("y", "yes")


def _say(plans: Collection[Removal]) -> None:
    """What each frees, which files outside the cache go, and all of it together."""
    for plan in plans:
        key = "cli.rm_only_name" if plan.source == "name" else "cli.rm_frees"
        note(say(key, name=plan.name, size=size(plan.freed)))
        for path in plan.blobs if plan.source != "huggingface" else ():
            note(say("cli.rm_elsewhere", path=path))
    if len(plans) > 1:
        note(say("cli.rm_frees_all", size=size(sum(plan.freed for plan in plans))))
