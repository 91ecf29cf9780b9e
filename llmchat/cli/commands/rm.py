"""`llmchat rm`: delete models, after saying what that frees."""

import click

from llmchat.cli.amounts import size
from llmchat.cli.output import ask, can_ask, note
from llmchat.cli.parameters import ModelName
from llmchat.cli.parts import open_models
from llmchat.errors import ExitCode, UsageError
from llmchat.text import say


@click.command(help=say("cli.about_rm"))
@click.argument("models", nargs=-1, required=True, type=ModelName(), metavar="MODEL...")
@click.option("-y", "--yes", is_flag=True, help=say("cli.opt_yes"))
@click.option("--dry-run", is_flag=True, help=say("cli.opt_rm_dry_run"))
def rm(models: tuple[str, ...], yes: bool, dry_run: bool) -> int:
    """Every name is looked up before anything is deleted."""
    library = open_models()
    plans = [library.plan_removal(ref) for ref in dict.fromkeys(models)]
    for plan in plans:
        note(say("cli.rm_frees", name=plan.name, size=size(plan.freed)))
    if dry_run:
        return ExitCode.OK
    if not yes:
        if not can_ask():
            raise UsageError("cli.rm_needs_yes")
        if (ask(say("cli.rm_ask")) or "n").lower() not in ("y", "yes"):
            note(say("cli.nothing_done"))
            return ExitCode.FAILED
    for plan in plans:
        library.remove(plan.name)
        note(say("cli.rm_done", name=plan.name))
    return ExitCode.OK
