"""`llmchat import FILE`: make a model file of this disk one of the library's."""

import click

from llmchat.cli.amounts import size
from llmchat.cli.output import answer, note
from llmchat.cli.parts import open_importing
from llmchat.cli.progress import Bar
from llmchat.core.importing import How
from llmchat.text import say


@click.command("import", help=say("cli.help_import"))
@click.argument("file", type=click.Path(path_type=str), metavar="FILE")
@click.option("--name", default="", metavar="NAME", help=say("cli.opt_import_name"))
@click.option("--copy", "how", flag_value="copy", help=say("cli.opt_copy"))
@click.option("--hardlink", "how", flag_value="hardlink", help=say("cli.opt_hardlink"))
@click.option("--symlink", "how", flag_value="symlink", help=say("cli.opt_symlink"))
@click.option("--move", "how", flag_value="move", help=say("cli.opt_move"))
def import_(file: str, name: str, how: How | None) -> None:
    """The name to run is the answer."""
    way: How = how or "refer"
    with Bar(file) as bar:
        model = open_importing().import_(
            file,
            how=way,
            name=name,
            on_bytes=lambda done, total: bar.share(
                file, done / total if total else 0.0, say("cli.stage_verifying")
            ),
        )
    note(say(f"cli.imported_{way}", name=model.name, size=size(model.size), path=model.path))
    answer(model.name)
