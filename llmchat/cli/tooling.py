"""The flags that offer a model tools and answer its calls.

Owns reading `--tool` files into OpenAI-shaped definitions and `--tool-result` into parts. A call is
written as one line of JSON on stdout; what runs it is the caller's. Refuses to run anything.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from llmchat.cli.output import escape_controls
from llmchat.cli.prompt import as_text, attachment
from llmchat.errors import UsageError
from llmchat.text import say
from llmchat.values import Message, Part, ToolCall

Command = TypeVar("Command", bound=Callable[..., Any])

_LONGEST_NAME: Final = 128


def tool_options(command: Command) -> Command:
    """Add the flags."""
    command = click.option(
        "--tool-result", "results", multiple=True, metavar="[ID=]TEXT",
        help=say("cli.opt_tool_result"),
    )(command)  # fmt: skip
    return click.option(
        "--tool", "tools", multiple=True, metavar="FILE", help=say("cli.opt_tool")
    )(command)  # fmt: skip


def tools_of(paths: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """The definitions in JSON files: one or a list each, whole or only their `function`.

    Raises:
        NotFound: a file cannot be read.
        UsageError: what is in it defines no tool.
    """
    found: list[dict[str, Any]] = []
    for path in paths:
        try:
            value = json.loads(attachment(path).text)
        except (ValueError, RecursionError) as error:
            raise UsageError("cli.no_tool", path=path) from error
        for item in value if isinstance(value, list) else [value]:
            found.append(_definition(item, path))
    return tuple(found)


def _definition(item: object, path: str) -> dict[str, Any]:
    if isinstance(item, dict):
        function = item.get("function") if item.get("type") == "function" else item
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(function, dict) and isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME:
            function.setdefault("description", "")
            function.setdefault("parameters", {"type": "object", "properties": {}})
            return {"type": "function", "function": function}
    raise UsageError("cli.no_tool", path=path)


def result_parts(results: Sequence[str], asked: Message | None) -> list[Part]:
    """What the tools answered, for the calls of the reply `asked`: by id, else in order.

    Raises:
        UsageError: nothing was called, or there are more results than calls.
    """
    calls = [part for part in asked.parts if part.kind == "tool_call"] if asked else []
    open_calls = {call.meta.get("id", ""): call for call in calls}
    parts: list[Part] = []
    for result in map(as_text, results):
        id_, sign, text = result.partition("=")
        if not (sign and id_ in open_calls):
            id_, text = next(iter(open_calls), ""), result
        call = open_calls.pop(id_, None)
        if call is None:
            raise UsageError("cli.no_call", count=len(calls))
        meta = {"id": id_, "name": call.meta.get("name", "")}
        parts.append(Part(kind="tool_result", text=text, meta=meta))
    return parts


def call_line(call: ToolCall) -> str:
    """A call as one line of JSON."""
    meta = {"id": call.id, "name": call.name}
    return kept_call_line(Part(kind="tool_call", text=call.arguments, meta=meta))


def kept_call_line(part: Part) -> str:
    """The same of a call that is part of a message."""
    return escape_controls(json.dumps(call_value(part), ensure_ascii=False)) + "\n"


def call_value(part: Part) -> dict[str, object]:
    """A call as it is printed: arguments as JSON where they are JSON, else as text."""
    try:
        arguments = json.loads(part.text)
    except (ValueError, RecursionError):
        arguments = part.text
    return {
        "id": part.meta.get("id", ""),
        "name": part.meta.get("name", ""),
        "arguments": arguments,
    }
