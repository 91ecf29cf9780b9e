"""The table of commands, each imported only when it is asked for.

Owns names, aliases and the order in which help lists them. A command module holds one click
command; help lists them from the catalogue (`cli.about_NAME`) without importing any.
"""

import os
from collections.abc import Sequence
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from llmchat.cli.output import prepare_streams
from llmchat.text import say

COMMANDS = {
    "run": "llmchat.cli.commands.run:run",
    "pull": "llmchat.cli.commands.pull:pull",
    "search": "llmchat.cli.commands.search:search",
    "fit": "llmchat.cli.commands.fit:fit",
    "list": "llmchat.cli.commands.list:list_models",
    "show": "llmchat.cli.commands.show:show",
    "rm": "llmchat.cli.commands.rm:rm",
    "import": "llmchat.cli.commands.import_:import_",
    "cp": "llmchat.cli.commands.cp:cp",
    "alias": "llmchat.cli.commands.alias:alias",
    "ps": "llmchat.cli.commands.ps:ps",
    "load": "llmchat.cli.commands.load:load",
    "stop": "llmchat.cli.commands.stop:stop",
    "bench": "llmchat.cli.commands.bench:bench",
    "embed": "llmchat.cli.commands.embed:embed",
    "rerank": "llmchat.cli.commands.rerank:rerank",
    "tokenize": "llmchat.cli.commands.tokenize:tokenize",
    "chats": "llmchat.cli.commands.chats:chats",
    "personas": "llmchat.cli.commands.personas:personas",
    "presets": "llmchat.cli.commands.presets:presets",
    "config": "llmchat.cli.commands.config:config",
    "doctor": "llmchat.cli.commands.doctor:doctor",
    "completion": "llmchat.cli.commands.completion:completion",
}
"""Name -> module:attribute, in the order of the help."""

ALIASES = {
    "chat": "run",
    "get": "pull",
    "download": "pull",
    "ls": "list",
    "info": "show",
    "inspect": "show",
    "unload": "stop",
    "logs": "chats",
    "find": "search",
}
"""Names that people have in their fingers from other programs."""


COMPLETION_VARIABLE = "_LLMCHAT_COMPLETE"
"""What click's completion scripts set to ask the program for completions."""


class Program(click.Group):
    """`llmchat`: opens the screen without a command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the help, aliases left out."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command behind a name or an alias, imported now."""
        place = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names and aliases, from the table: a Tab imports no command."""
        return [
            CompletionItem(name, help=say(f"cli.about_{ALIASES.get(name, name)}"))
            for name in [*COMMANDS, *ALIASES]
            if name.startswith(incomplete)
        ]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command to run; an unknown name is answered with those that look alike."""
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            if args[0].startswith("-"):
                raise click.NoSuchOption(args[0], ctx=ctx)
            import difflib  # for a misspelling alone

            near = difflib.get_close_matches(args[0], [*COMMANDS, *ALIASES], n=3)
            words = say("cli.no_such_command", name=args[0])
            hint = say("cli.did_you_mean", names=", ".join(near)) if near else ""
            raise click.UsageError(f"{words} {hint}".rstrip(), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line a command, with its aliases."""
        rows = []
        for name in COMMANDS:
            aliases = [alias for alias, target in ALIASES.items() if target == name]
            rows.append((", ".join([name, *aliases]), say(f"cli.about_{name}")))
        with formatter.section(say("cli.commands_heading")):
            formatter.write_dl(rows)


@click.group(
    cls=Program,
    invoke_without_command=True,
    help=say("cli.help"),
    epilog=say("cli.help_epilog"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("-V", "--version", "version", is_flag=True, help=say("cli.opt_version"))
@click.pass_context
def llmchat(ctx: click.Context, version: bool) -> int:
    """Without a command: the chat, at the conversation used last."""
    if version:
        from llmchat import __version__
        from llmchat.cli.output import answer

        answer(f"llmchat {__version__}")
        ctx.exit(0)
    if ctx.invoked_subcommand is not None:
        return 0
    from llmchat.cli.open_tui import open_tui

    return open_tui()


def run_program(words: Sequence[str]) -> int:
    """Run one command line and return its exit code. Failures are raised.

    Not click's own `main`: that one ends a closed pipe with code 1.
    """
    prepare_streams()
    asked = os.environ.get(COMPLETION_VARIABLE)
    if asked:  # a shell's completion script calls us
        from click.shell_completion import shell_complete

        return shell_complete(llmchat, {}, "llmchat", COMPLETION_VARIABLE, asked)
    try:
        with llmchat.make_context("llmchat", list(map(_readable, words))) as context:
            code = llmchat.invoke(context)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    return code if isinstance(code, int) else 0


def _readable(word: str) -> str:
    """A word with signs in place of bytes that are no text, unless it names a file.

    Nothing can store or send such bytes: half a character from another encoding, as a rule.
    """
    try:
        word.encode()
    except UnicodeEncodeError:
        from llmchat.cli.prompt import as_text

        return word if os.path.lexists(word) else as_text(word)
    return word
