"""`llmchat cp MODEL NAME`: a second name with settings of its own."""

import click

from llmchat.cli.output import answer, note
from llmchat.cli.parameters import ModelName
from llmchat.cli.parts import open_importing
from llmchat.text import say


@click.command("cp", help=say("cli.help_cp"))
@click.argument("model", type=ModelName(), metavar="MODEL")
@click.argument("name", metavar="NAME")
def cp(model: str, name: str) -> None:
    """The new name is the answer."""
    copied = open_importing().copy(model, name)
    note(say("cli.copied", name=copied.name))
    answer(copied.name)
