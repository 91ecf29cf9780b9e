"""`llmchat pull REF`: fetch a model, whole or not at all."""

import click
import msgspec

from llmchat.cli.amounts import size
from llmchat.cli.fetching import fetch, say_plan
from llmchat.cli.output import answer, answer_json, note, table
from llmchat.cli.parameters import ModelName
from llmchat.cli.parts import open_downloads
from llmchat.core.downloads import DownloadPlan
from llmchat.text import say


@click.command(help=say("cli.about_pull"))
@click.argument("ref", type=ModelName(), metavar="REF")
@click.option("-q", "--quant", metavar="LABEL", help=say("cli.opt_quant"))
@click.option("--revision", default="", metavar="REV", help=say("cli.opt_revision"))
@click.option("--no-mmproj", is_flag=True, help=say("cli.opt_no_mmproj"))
@click.option("--dry-run", is_flag=True, help=say("cli.opt_dry_run"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json_lines"))
def pull(
    ref: str, quant: str | None, revision: str, no_mmproj: bool, dry_run: bool, as_json: bool
) -> None:
    """The name to run is the answer; progress is on stderr."""
    wanted = f"{ref}@{quant}" if quant else ref
    plan = open_downloads().plan(wanted, revision=revision, projector=not no_mmproj)
    if dry_run:
        _show(plan, as_json)
        return
    if not as_json and not plan.complete:
        say_plan(plan)
    model = fetch(plan, as_json=as_json)
    if as_json:
        answer_json({"stage": "done", "model": model})
        return
    key = "cli.pull_here" if plan.complete else "cli.pull_done"
    note(say(key, name=plan.name, size=size(model.size)))
    answer(plan.name)


def _show(plan: DownloadPlan, as_json: bool) -> None:
    if as_json:
        facts = msgspec.to_builtins(plan)
        answer_json(facts | {"size": plan.size, "here": plan.here, "complete": plan.complete})
        return
    rows = [(file.path, size(file.size), size(file.here)) for file in plan.files]
    table(("FILE", "SIZE", "HERE"), rows)
    say_plan(plan)
