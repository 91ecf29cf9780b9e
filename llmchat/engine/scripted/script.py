r"""The little language that tells a scripted worker what to do: `key=value;key=value`.

A worker's own script comes from `LLMCHAT_ENGINE=scripted:SCRIPT` and holds for every request; a
user's message whose last line begins with `#!` overrides it for that request. Values may hold
anything but `;` and newlines; `\n` in them is a newline. A path ending in `.json` names
a file with the same keys instead.
"""

from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

Stage = Literal["load", "read", "first", "reply", "idle"]
"""While loading, while reading the prompt, before the first token, mid-reply, after the reply."""

How = Literal[
    "SIGKILL",
    "SIGSEGV",
    "SIGABRT",
    "SIGBUS",
    "SIGTERM",
    "exit0",
    "exit1",
    "raise",
    "close",
    "garbage",
    "half",
    "huge",
]
"""A signal to itself, an exit, an exception in the loop, or what goes wrong on its socket."""

DIRECTIVE = "#!"


class Script(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a scripted worker does. Rates are tokens a second, 0 = at once; times are seconds."""

    say: str = ""
    """The reply; empty = a short text that quotes the last user message."""
    words: int = 0
    """That many words of filler instead."""
    think: str = ""
    tool: str = ""
    """A tool call after the text: a name, a space, the arguments as JSON."""
    rate: float = 200.0
    prompt: int = 0
    """Tokens that the prompt seems to have; 0 = its words."""
    read: float = 0.0
    """How fast the prompt is read, in steps of 32 tokens."""
    fail: str = ""
    """The code of a Failed that answers instead."""
    message: str = "The script says so."
    """The sentence of `fail` and `load_fail`."""
    hang: Stage | None = None
    """Go on for ever there, deaf to cancels and to `stop`."""
    deaf: bool = False
    """Ignore cancels, but go on."""
    die: How | None = None
    at: Stage = "reply"
    load: float = 0.0
    load_fail: bool = False
    n_ctx: int = 4096
    device: str = ""
    """A folder that stands for a device which scripted workers share (device.py)."""
    total: int = 1000
    """MiB of that device."""
    needs: int = 600
    """MiB of it that this worker takes."""
    late: float = 0.0
    """Seconds from a worker's end until the device has all of its memory back."""


class ScriptError(ValueError):
    """A script that says nothing known."""


def parse(text: str, base: Script | None = None) -> Script:
    """The script in `text`, over `base`.

    Raises:
        ScriptError: an unknown key or value.
    """
    if text.endswith(".json"):
        fields: dict[str, Any] = msgspec.json.decode(Path(text).read_bytes(), type=dict)
    else:
        fields = dict(_pair(item) for item in text.split(";") if item.strip())
    known = msgspec.to_builtins(base) if base is not None else {}
    try:
        return msgspec.convert({**known, **fields}, Script, strict=False)
    except msgspec.ValidationError as error:
        raise ScriptError(str(error)) from error


def _pair(item: str) -> tuple[str, str]:
    key, _, value = item.strip().partition("=")
    return key, value.replace("\\n", "\n")


def for_message(text: str, base: Script) -> tuple[str, Script]:
    """A user's message without its directive line, and the script it leads to."""
    body, _, last = text.rpartition("\n")
    if not last.startswith(DIRECTIVE):
        return text, base
    return body, parse(last.removeprefix(DIRECTIVE), base)


SIGNALS = tuple(how for how in get_args(How) if how.startswith("SIG"))
