"""`llmchat alias`: names of one's own for models."""

import click

from llmchat.cli.output import answer, answer_json, note, table
from llmchat.cli.parameters import ModelName
from llmchat.cli.parts import open_importing, open_settings
from llmchat.errors import NotFound, UsageError
from llmchat.text import say


@click.command("alias", help=say("cli.help_alias"))
@click.argument("name", required=False, metavar="[NAME]")
@click.argument("ref", required=False, type=ModelName(), metavar="[REF]")
@click.option("-d", "--remove", is_flag=True, help=say("cli.opt_alias_remove"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def alias(name: str | None, ref: str | None, remove: bool, as_json: bool) -> None:
    """Without words the names there are; with one, what it means."""
    if remove and (not name or ref):
        raise UsageError("cli.alias_remove_one")
    if name and remove:
        target = open_importing().forget(name)
        note(say("cli.alias_removed", name=name, ref=target))
    elif name and ref:
        here = open_importing().alias(name, ref)
        note(say("cli.alias_set" if here else "cli.alias_set_absent", name=name, ref=ref))
    else:
        _show(name, as_json)


def _show(name: str | None, as_json: bool) -> None:
    aliases = dict(open_settings().aliases)
    if name is not None:
        known = {alias.casefold(): target for alias, target in aliases.items()}
        if name.casefold() not in known:
            raise NotFound("library.no_alias", name=name)
        answer(known[name.casefold()])
    elif as_json:
        answer_json(aliases)
    elif aliases:
        table(("NAME", "MODEL"), sorted(aliases.items()))
    else:
        note(say("cli.no_aliases"))
