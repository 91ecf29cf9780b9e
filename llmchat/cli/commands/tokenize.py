"""`llmchat tokenize`: the tokens of a text, with llama-tokenize's flags."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from llmchat.cli.asking import asking
from llmchat.cli.choosing import find_or_fetch, pick
from llmchat.cli.options import load_options, settings_of
from llmchat.cli.output import answer_json, write_answer
from llmchat.cli.parameters import ModelName
from llmchat.cli.parts import open_models
from llmchat.cli.prompt import as_text, piped
from llmchat.errors import UsageError
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.values import ChatSettings, ModelFile

if TYPE_CHECKING:
    from llmchat.engine.protocol import Tokenized


@click.command(help=say("cli.help_tokenize"))
@click.argument("words", nargs=-1, type=ModelName(), metavar="[MODEL] [TEXT]...")
@click.option("-m", "--model", type=ModelName(), help=say("cli.opt_tokenize_model"))
@click.option("--ids", is_flag=True, help=say("cli.opt_ids"))
@click.option("--show-count", is_flag=True, help=say("cli.opt_show_count"))
@click.option("--no-bos", is_flag=True, help=say("cli.opt_no_bos"))
@click.option("--no-parse-special", is_flag=True, help=say("cli.opt_no_parse_special"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_tokenize_json"))
@load_options
def tokenize(
    words: tuple[str, ...],
    model: str | None,
    ids: bool,
    show_count: bool,
    no_bos: bool,
    no_parse_special: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - a dozen flags by name
) -> None:
    """The text is the words, or else stdin as it is."""
    typed = list(words)
    if model is None and typed:
        model = typed.pop(0)
    text = " ".join(as_text(word) for word in typed) or piped()
    if not text:
        raise UsageError("cli.no_text")
    chosen = find_or_fetch(model) if model else open_models().default() or pick()
    found = asyncio.run(
        _tokenize(chosen, settings_of(given), text, special=not no_parse_special, bos=not no_bos)
    )
    if ids:
        answer_json(found.tokens)
    elif as_json:
        answer_json({"model": chosen.name, "count": len(found.tokens), "tokens": _rows(found)})
    elif not show_count:
        for token, piece in zip(found.tokens, found.pieces, strict=True):
            write_answer(f"{token:6} -> {_shown(piece)}\n")
    if show_count:
        write_answer(say("cli.token_count", count=len(found.tokens)) + "\n")


def _rows(found: "Tokenized") -> list[dict[str, object]]:
    """Ids and texts; a token that is no whole character says its bytes too."""
    rows: list[dict[str, object]] = []
    for token, piece in zip(found.tokens, found.pieces, strict=True):
        row: dict[str, object] = {"id": token, "text": piece.decode("utf-8", "replace")}
        try:
            piece.decode()
        except UnicodeDecodeError:
            row["bytes"] = list(piece)
        rows.append(row)
    return rows


def _shown(piece: bytes) -> str:
    """A piece in quotes: control characters and broken ones as escapes, spaces as they are."""
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return repr(piece)[1:]
    quoted = repr(text)
    return quoted if clean_line(quoted, len(quoted) + 1) == quoted else ascii(text)


async def _tokenize(
    model: ModelFile, flags: ChatSettings, text: str, *, special: bool, bos: bool
) -> "Tokenized":
    async with asking(model, flags, "tokenize") as session:
        return await session.tokenize(text, parse_special=special, add_special=bos)
