"""What `llmchat personas` and `llmchat presets` have in common: listing and showing files."""

from collections.abc import Callable
from typing import Any

import click
import msgspec

from llmchat.cli.output import answer, answer_json, note, table
from llmchat.cli.parameters import PersonaName, PresetName
from llmchat.cli.parts import open_settings
from llmchat.config.profiles import Profile, Profiles
from llmchat.text import say


def group(kind: str, find: Callable[[Any], Profiles[Any]]) -> click.Group:
    """The commands of one kind, `persona` or `preset`. `find`: its files, of the settings."""

    @click.group(f"{kind}s", help=say(f"cli.about_{kind}s"), invoke_without_command=True)
    @click.pass_context
    def commands(ctx: click.Context) -> None:
        if ctx.invoked_subcommand is None:
            ctx.invoke(listed, as_json=False)

    @commands.command("list", help=say(f"cli.about_{kind}s_list"))
    @click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
    def listed(as_json: bool) -> None:
        _list(find(open_settings()), as_json)

    name_type = PersonaName() if kind == "persona" else PresetName()

    @commands.command("show", help=say(f"cli.about_{kind}s_show"))
    @click.argument("name", type=name_type)
    @click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
    def show(name: str, as_json: bool) -> None:
        _show(find(open_settings()).get(name), as_json)

    return commands


def _list(known: Profiles[Any], as_json: bool) -> None:
    found = [known.get(name) for name in known.names()]
    for profile in found:
        _complain(profile.problems)
    if as_json:
        answer_json(found)
    else:
        table(("NAME", "ABOUT"), [(one.name, one.table.about or "-") for one in found])


def _show(profile: Profile[Any], as_json: bool) -> None:
    _complain(profile.problems)
    if as_json:
        answer_json(profile)
        return
    for key, value in msgspec.to_builtins(profile.table).items():
        if isinstance(value, dict):
            for inner, one in value.items():
                answer(f"{key}.{inner} = {_text(one)}")
        else:
            answer(f"{key} = {_text(value)}")


def _complain(problems: tuple[str, ...]) -> None:
    for problem in problems:
        note(problem)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
