"""`llmchat doctor`: what works here and what does not."""

import asyncio

import click

from llmchat.cli.amounts import size
from llmchat.cli.health import examine
from llmchat.cli.output import answer, answer_json, ask, can_ask, note
from llmchat.cli.parts import open_models
from llmchat.errors import ExitCode, UsageError
from llmchat.text import say


@click.command(help=say("cli.about_doctor"))
@click.option("--clean", is_flag=True, help=say("cli.opt_clean"))
@click.option("-y", "--yes", is_flag=True, help=say("cli.opt_yes"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def doctor(clean: bool, yes: bool, as_json: bool) -> int:
    """A line a check; code 1 when something is broken."""
    if clean:
        return _clean(yes)
    checks = asyncio.run(examine())
    if as_json:
        answer_json(checks)
    else:
        for check in checks:
            answer(f"{say(f'cli.doctor_{check.state}')}  {check.name}: {check.text}")
            if check.hint:
                answer(f"      {check.hint}")
    broken = any(check.state == "bad" for check in checks)
    return ExitCode.FAILED if broken else ExitCode.OK


def _clean(yes: bool) -> int:
    """Delete what pulls that died have left, but for what is being written now."""
    from llmchat.core.leftovers import leftovers, remove

    cache = open_models().hub_cache
    found = leftovers(cache)
    if not found:
        note(say("cli.doctor_nothing_to_clean"))
        return ExitCode.OK
    if not yes:
        if not can_ask():
            raise UsageError("cli.rm_needs_yes")
        words = say("cli.doctor_clean_ask", count=len(found), size=size(sum(f.size for f in found)))
        if (ask(words) or "n").lower() not in ("y", "yes"):
            note(say("cli.nothing_done"))
            return ExitCode.FAILED
    removed = remove(cache, found)
    note(say("cli.doctor_cleaned", count=len(removed), size=size(sum(f.size for f in removed))))
    return ExitCode.OK
