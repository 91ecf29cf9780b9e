"""`llmchat pull REF...`: fetch models, each whole or not at all."""

import click
import msgspec

from llmchat.cli.amounts import size
from llmchat.cli.failures import explain
from llmchat.cli.fetching import fetch, look_up, say_plan
from llmchat.cli.output import answer, answer_json, note, table
from llmchat.cli.parameters import AnyModelName, Rate
from llmchat.cli.parts import open_downloads
from llmchat.core.downloads import DownloadPlan
from llmchat.errors import ExitCode, Interrupted, LlmchatError
from llmchat.text import say


@click.command(help=say("cli.help_pull"))
@click.argument("refs", nargs=-1, required=True, type=AnyModelName(), metavar="REF...")
@click.option("-q", "--quant", metavar="LABEL", help=say("cli.opt_quant"))
@click.option("--revision", default="", metavar="REV", help=say("cli.opt_revision"))
@click.option("--no-mmproj", is_flag=True, help=say("cli.opt_no_mmproj"))
@click.option("--drafter", is_flag=True, help=say("cli.opt_drafter"))
@click.option("--limit-rate", type=Rate(), default=0.0, help=say("cli.opt_limit_rate"))
@click.option("--dry-run", is_flag=True, help=say("cli.opt_dry_run"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json_lines"))
def pull(
    refs: tuple[str, ...],
    quant: str | None,
    revision: str,
    no_mmproj: bool,
    drafter: bool,
    limit_rate: float,
    dry_run: bool,
    as_json: bool,
) -> int:
    """The names to run are the answer; progress is on stderr. All are looked up first."""
    plans = [
        look_up(
            f"{ref}@{quant}" if quant else ref,
            revision=revision,
            projector=not no_mmproj,
            drafter=drafter,
        )
        for ref in dict.fromkeys(refs)
    ]
    if dry_run:
        for plan in plans:
            _show(plan, as_json)
    if len(plans) > 1 and not as_json:
        left = sum(plan.size - plan.here for plan in plans)
        note(say("cli.plan_all", count=len(plans), size=size(left)))
    if dry_run:
        return ExitCode.OK
    open_downloads().check_space(plans)
    codes = [_fetch(plan, as_json, limit_rate) for plan in plans]
    return next((code for code in codes if code), ExitCode.OK)


def _fetch(plan: DownloadPlan, as_json: bool, limit: float) -> int:
    """One of the plans. What goes wrong with it is said, and the others follow."""
    if not as_json and not plan.complete:
        say_plan(plan)
    try:
        model = fetch(plan, as_json=as_json, limit=limit)
    except Interrupted:
        raise
    except LlmchatError as error:
        if as_json:
            told = {"name": plan.name, "stage": "failed", "error": error.key}
            answer_json(told | {"message": error.sentence})
        return explain(error)
    if as_json:
        answer_json({"name": plan.name, "stage": "done", "model": model})
        return ExitCode.OK
    key = "cli.pull_here" if plan.complete else "cli.pull_done"
    note(say(key, name=plan.name, size=size(model.size)))
    answer(plan.name)
    return ExitCode.OK


def _show(plan: DownloadPlan, as_json: bool) -> None:
    if as_json:
        facts = msgspec.to_builtins(plan)
        answer_json(facts | {"size": plan.size, "here": plan.here, "complete": plan.complete})
        return
    rows = [(file.path, size(file.size), size(file.here)) for file in plan.files]
    table(("FILE", "SIZE", "HERE"), rows)
    say_plan(plan)
