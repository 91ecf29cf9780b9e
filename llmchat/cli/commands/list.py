"""`llmchat list`: the models on this disk."""

import os

import click
from msgspec import to_builtins

from llmchat.cli.amounts import ago, size
from llmchat.cli.output import answer, answer_json, note, table
from llmchat.cli.parts import open_models
from llmchat.text import say


@click.command("list", help=say("cli.about_list"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
@click.option("-q", "--quiet", is_flag=True, help=say("cli.opt_names_only"))
def list_models(as_json: bool, quiet: bool) -> None:
    """NAME, ID, SIZE and MODIFIED, as ollama prints them, and where each lies."""
    models = open_models()
    found = models.list()
    if as_json:
        from llmchat.cli.measured import speeds  # opens the conversations: a table does without

        known = speeds() if found else {}
        answer_json([to_builtins(m) | {"speed": known.get(m.identity)} for m in found])
    elif quiet:
        for model in found:
            answer(model.name)
    elif found:
        rows = [(m.name, m.identity[:12], size(m.size), _modified(m.path), m.source) for m in found]
        table(("NAME", "ID", "SIZE", "MODIFIED", "SOURCE"), rows)
    else:
        note(say("cli.no_models"))
    if not quiet and not as_json:
        for one in models.incomplete():
            parts = len(one.paths)
            whole = parts + one.missing
            note(say("cli.list_incomplete", name=one.name, parts=parts, whole=whole))


def _modified(path: str) -> str:
    try:
        return ago(os.stat(path).st_mtime)
    except OSError:  # removed since it was listed
        return "-"
