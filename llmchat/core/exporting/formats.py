"""What conversations can be written as, and how several of them become one text.

A text is made one conversation at a time, so that exporting everything needs the memory of one.
"""

from collections.abc import Callable
from typing import Literal, get_args

from msgspec import Struct

from llmchat.core.exporting import html, markdown, own, training
from llmchat.values import SavedConversation

ExportKind = Literal["md", "json", "jsonl", "html"]
KINDS: tuple[ExportKind, ...] = get_args(ExportKind)


class Format(Struct, frozen=True, kw_only=True):
    """How a text begins, how each conversation is written into it, and how it ends."""

    one: Callable[[SavedConversation], str]
    begin: str = ""
    between: str = ""
    end: str = ""


FORMATS: dict[ExportKind, Format] = {
    "md": Format(one=markdown.markdown, between="\n---\n\n"),
    "json": Format(one=own.encode, begin=own.BEGIN, between=own.BETWEEN, end=own.END),
    "jsonl": Format(one=training.line),
    "html": Format(one=html.html, begin=html.BEGIN, end=html.END),
}
"""`json` alone holds the whole tree and can be imported without loss; the others hold a branch."""
