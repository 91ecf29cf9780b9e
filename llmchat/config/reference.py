"""`docs/config.md`, made from the schema: `python -m llmchat.config.reference > docs/config.md`.

A test compares the two, so the page cannot drift.
"""

import json
import sys
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from msgspec import UNSET

from llmchat.config.reading import PREFIX, SHORT_NAMES
from llmchat.config.schema import LIMITS, TABLES, fields
from llmchat.text import catalogue

_INTRODUCTION = """# Configuration

One file, `config.toml`; `llmchat config path` says where. `llmchat config set KEY VALUE` changes it
and keeps its comments, `llmchat config list` shows every setting with the layer that set it. Every
key is optional. A mistake in the file is named with its line and costs only that key.

What wins, field by field: a flag on the command line, this message, the conversation, its persona,
its preset, the model's own table, the environment, `config.toml`, the model's metadata, llama.cpp's
default. `llmchat chats settings CHAT` shows what won in a conversation.

Every setting below is also an environment variable: `LLMCHAT_TABLE_KEY`, e.g.
`LLMCHAT_SAMPLING_TEMPERATURE=0.7`; {short}.

```toml
[chat]
model = "smollm2:135m"

[sampling]
temperature = 0.7

[aliases]
small = "owner/repo:Q4_K_M"          # a name of your own

[keys]                               # other keys for the chat screen
chat.search = "ctrl+f"
chat.sidebar = ["ctrl+b", "f6"]

[models."owner/repo:Q4_K_M"]         # whenever this model is used
system = "Be brief."
sampling.top_k = 20
load.n_ctx = 16384
```
"""


_PERSONAS = """## Personas and presets

A persona is a file `personas/NAME.toml` beside `config.toml`, to be copied and shared: a system
prompt, how to sample and how to load, under a name, and `about`, a line for the list. A preset is a
file `presets/NAME.toml` with the same but a system prompt; a persona may name one. `llmchat run
--persona NAME --preset NAME` begins a conversation with them, `llmchat chats set` and F7 in the
chat give them to one, `persona` and `preset` in a model's table to all that use it; `llmchat
personas` and `llmchat presets` list what there is.

```toml
about = "Answers like a pirate"
system = "You are a pirate."
thinking = false

[sampling]
temperature = 1.1

[load]
n_ctx = 8192
```
"""


OTHERS = {
    f"{PREFIX}HOME": "Moves settings, conversations, state, cache and logs under this folder.",
    f"{PREFIX}LANG": "The language of messages, e.g. `en`; without it the locale decides.",
    f"{PREFIX}DEBUG": "`1` prints where a failure happened; no report is written then.",
    f"{PREFIX}TRANSPORT": "`tcp` makes workers listen on loopback TCP instead of a Unix socket.",
    f"{PREFIX}MACHINE": "Where the lock of all homes of a user lies, otherwise `/tmp/llmchat-UID`.",
    f"{PREFIX}ENGINE": "`scripted` answers without a model, for tests.",
}
"""Variables that are no settings, each with what it does; a test finds them in the code."""


def type_words(kind: object) -> str:
    """A type as a reader of TOML knows it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(type_words(one) for one in inner if one is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(one)}`" for one in inner)
    if origin is Annotated:
        return 'a size such as `"4 GiB"`'
    if origin is tuple:
        return f"list of {type_words(inner[0])}"
    if origin is dict:
        return f"table of {type_words(inner[1])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names[kind] if isinstance(kind, type) else str(kind)


def range_words(key: str) -> str:
    """The limits of a number, if it has some."""
    low, high = LIMITS.get(key, (UNSET, UNSET))
    if low is UNSET:
        return ""
    return f", {low} or more" if high is UNSET else f", {low} to {high}"


def _others() -> list[str]:
    lines = ["## Other variables", "", "| variable | |", "|---|---|"]
    lines += [f"| `{name}` | {about} |" for name, about in OTHERS.items()]
    return [*lines, ""]


def reference() -> str:
    """The whole page."""
    words = catalogue("en")
    short = ", ".join(f"`{name}` for `{key}`" for name, key in SHORT_NAMES.items())
    lines = [_INTRODUCTION.format(short=f"short names: {short}")]
    for table, struct in TABLES.items():
        lines += [f"## `[{table}]`", "", "| key | type | |", "|---|---|---|"]
        for name, kind in fields(struct).items():
            about = words[f"config.about_{table}_{name}"]
            limits = range_words(f"{table}.{name}")
            lines.append(f"| `{name}` | {type_words(kind)}{limits} | {about} |")
        lines.append("")
    lines += [_PERSONAS, *_others()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(reference())
