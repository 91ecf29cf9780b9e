"""The flags that make an answer obey a schema, a regex or a grammar, with llama.cpp's names.

Owns reading them into one `Constraint`. Refuses to judge a grammar: the engine reads it, and its
reason is the sentence that is shown.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from llmchat.cli.prompt import as_text, attachment
from llmchat.errors import UsageError
from llmchat.text import say
from llmchat.values import Constraint

Command = TypeVar("Command", bound=Callable[..., Any])

FLAGS: Final = {
    "json_schema": (("-j", "--json-schema"), "FILE|JSON"),
    "json_schema_file": (("-jf", "--json-schema-file"), "FILE"),
    "regex": (("--regex",), "REGEX"),
    "lark": (("--lark",), "FILE"),
    "grammar": (("--grammar",), "GBNF"),
    "grammar_file": (("--grammar-file",), "FILE"),
}
"""Name of a value -> its flags and what they take."""

PLAIN: Final = ("{", "true", "false")
"""How a schema begins that is given as it is: `-j` takes either, so that a file is not spelled."""


def constraint_options(command: Command) -> Command:
    """Add the flags."""
    for name, (flags, takes) in reversed(FLAGS.items()):
        option = click.option(*flags, name, metavar=takes, help=say(f"cli.opt_{name}"))
        command = option(command)
    return command


def constraint_of(given: dict[str, Any]) -> Constraint | None:
    """What the answer must obey, of a command line's values.

    Raises:
        UsageError: more than one is given.
        NotFound: a file cannot be read.
    """
    found = [name for name in FLAGS if given.get(name) is not None]
    if not found:
        return None
    if len(found) > 1:
        flags = ", ".join(FLAGS[name][0][-1] for name in found)
        raise UsageError("cli.two_constraints", flags=flags)
    [name] = found
    text = as_text(given[name])
    if name == "regex":
        return Constraint(kind="regex", text=text)
    if name == "lark":
        return Constraint(kind="lark", text=attachment(text).text)
    if name.startswith("grammar"):
        whole = attachment(text).text if name == "grammar_file" else text
        return Constraint(kind="gbnf", text=whole)
    plain = name == "json_schema" and text.lstrip().startswith(PLAIN)
    return Constraint(kind="json_schema", text=text if plain else attachment(text).text)
