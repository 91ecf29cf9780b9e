"""`python -m llmchat.cli.reference [PATH]`: docs/cli.md, made from the commands themselves.

Owns turning click's commands into Markdown. A test holds the committed page to what this prints.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from llmchat.cli.program import ALIASES, COMMANDS, llmchat
from llmchat.errors import ExitCode
from llmchat.text import say


def reference() -> str:
    """The whole page."""
    context = click.Context(llmchat, info_name="llmchat")
    lines = [
        f"# {say('cli.reference_title')}",
        "",
        say("cli.reference_made"),
        "",
        llmchat.help or "",
    ]
    for name in COMMANDS:
        command = llmchat.get_command(context, name)
        assert command is not None
        aliases = [alias for alias, target in ALIASES.items() if target == name]
        lines += ["", *_command(command, f"llmchat {name}", aliases, context)]
    return "\n".join([*lines, "", *_codes(), ""])


def _command(
    command: click.Command, path: str, aliases: list[str], parent: click.Context
) -> Iterator[str]:
    context = click.Context(command, info_name=path.removeprefix("llmchat "), parent=parent)
    yield f"## {path}"
    yield ""
    if aliases:
        yield say("cli.reference_aliases", names=", ".join(f"`{alias}`" for alias in aliases))
        yield ""
    yield command.help or ""
    yield ""
    pieces = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
    yield f"    {' '.join([path, *pieces])}"
    rows = list(_options(command, context))
    if rows:
        yield from ("", f"| {say('cli.reference_option')} | |", "|---|---|", *rows)
    if command.epilog:
        yield ""
        yield from (f"    {line}" for line in command.epilog.strip("\b\n").splitlines())
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield ""
            yield from _command(inner, f"{path} {name}", [], parent)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        flags, words = record or ("", "")
        if words and "--help" not in parameter.opts:
            yield _row(f"`{flags}`", words)


def _codes() -> Iterator[str]:
    yield from (
        f"## {say('cli.reference_codes')}",
        "",
        f"| {say('cli.reference_code')} | |",
        "|---|---|",
    )
    for code in ExitCode:
        yield _row(str(int(code)), say(f"cli.code_{code.name.lower()}"))
    yield _row("128+n", say("cli.code_signal"))


def _row(*cells: str) -> str:
    """A row of a Markdown table."""
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


if __name__ == "__main__":
    page = reference()
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page, encoding="utf-8")
    else:
        sys.stdout.write(page)
