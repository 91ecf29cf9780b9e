"""`llmchat completion SHELL`: the script that makes a shell complete commands, models and chats."""

import click
from click.shell_completion import get_completion_class

from llmchat.cli.output import write_answer
from llmchat.text import say


@click.command(
    help=say("cli.about_completion"),
    epilog="\b\n" + say("cli.completion_install"),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script; where it goes is in the help."""
    from llmchat.cli.program import COMPLETION_VARIABLE, llmchat

    script = get_completion_class(shell)
    assert script is not None  # the three are click's own
    write_answer(script(llmchat, {}, "llmchat", COMPLETION_VARIABLE).source())
