"""`llmchat doctor`: what works here and what does not."""

import asyncio

import click

from llmchat.cli.health import examine
from llmchat.cli.output import answer, answer_json
from llmchat.errors import ExitCode
from llmchat.text import say


@click.command(help=say("cli.about_doctor"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def doctor(as_json: bool) -> int:
    """A line a check; code 1 when something is broken."""
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
