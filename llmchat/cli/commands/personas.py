"""`llmchat personas`: settings under a name, from files that can be shared."""

import click
import msgspec

from llmchat.cli.output import answer, answer_json, note, table
from llmchat.cli.parameters import PersonaName
from llmchat.cli.parts import open_settings
from llmchat.text import say


@click.group(help=say("cli.about_personas"), invoke_without_command=True)
@click.pass_context
def personas(ctx: click.Context) -> None:
    """Alone: the list."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_personas, as_json=False)


@personas.command("list", help=say("cli.about_personas_list"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def list_personas(as_json: bool) -> None:
    """Names with what each is for; what is wrong with a file is said on stderr."""
    known = open_settings().personas
    found = [known.get(name) for name in known.names()]
    for persona in found:
        for problem in persona.problems:
            note(problem)
    if as_json:
        answer_json(found)
    else:
        table(("NAME", "ABOUT"), [(persona.name, persona.table.about or "-") for persona in found])


@personas.command("show", help=say("cli.about_personas_show"))
@click.argument("name", type=PersonaName())
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def show_persona(name: str, as_json: bool) -> None:
    """Each setting as `config set` takes it."""
    persona = open_settings().personas.get(name)
    for problem in persona.problems:
        note(problem)
    if as_json:
        answer_json(persona)
        return
    for key, value in msgspec.to_builtins(persona.table).items():
        if isinstance(value, dict):
            for inner, one in value.items():
                answer(f"{key}.{inner} = {_text(one)}")
        else:
            answer(f"{key} = {_text(value)}")


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
