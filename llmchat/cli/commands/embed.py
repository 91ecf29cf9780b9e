"""`llmchat embed`: vectors of texts: a line of JSON each, or one object as the OpenAI API does."""

import asyncio
from contextlib import aclosing
from typing import Any

import click

from llmchat.cli.asking import asking, choose
from llmchat.cli.options import load_options, settings_of
from llmchat.cli.output import answer_json
from llmchat.cli.parameters import ModelName
from llmchat.cli.progress import Bar
from llmchat.cli.prompt import as_text, piped
from llmchat.errors import UsageError
from llmchat.text import say
from llmchat.values import ChatSettings, ModelFile

BASE: int = 10**7
"""Vectors are rounded to seven digits behind the point: more is noise at 32 bits."""


@click.command(help=say("cli.help_embed"))
@click.argument("words", nargs=-1, type=ModelName(), metavar="[MODEL] [TEXT]...")
@click.option("-m", "--model", type=ModelName(), help=say("cli.opt_embed_model"))
@click.option("--truncate", is_flag=True, help=say("cli.opt_truncate"))
@click.option("--no-normalize", is_flag=True, help=say("cli.opt_no_normalize"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_embed_json"))
@load_options
def embed(
    words: tuple[str, ...],
    model: str | None,
    truncate: bool,
    no_normalize: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - a dozen flags by name
) -> None:
    """Texts are the words, or else the lines of stdin."""
    typed = list(words)
    if model is None and typed:
        model = typed.pop(0)
    texts = [as_text(word) for word in typed] or lines_of(piped())
    if not texts:
        raise UsageError("cli.no_texts")
    chosen = choose(model, "embedding")
    flags = settings_of(given)
    asyncio.run(
        _embed(chosen, flags, texts, truncate=truncate, unit=not no_normalize, as_json=as_json)
    )


def lines_of(text: str) -> list[str]:
    """The lines that are not empty."""
    return [line for line in text.splitlines() if line.strip()]


async def _embed(
    model: ModelFile,
    flags: ChatSettings,
    texts: list[str],
    *,
    truncate: bool,
    unit: bool,
    as_json: bool,
) -> None:
    from llmchat.core import vectors

    rows: list[list[float]] = []
    tokens = 0
    async with asking(model, flags, "embed") as session:
        with Bar(say("cli.embedding")) as bar:

            def show(share: float) -> None:
                bar.share(say("cli.embedding"), share, str(len(texts)))

            found = vectors.embed(session, texts, truncate=truncate, normalize=unit, on_share=show)
            async with aclosing(found):
                async for answer in found:
                    tokens += answer.tokens
                    some = [[_rounded(value) for value in row] for row in answer.floats()]
                    if as_json:
                        rows += some
                    else:
                        _print_lines(some, bar)
    if as_json:
        answer_json(_object(model.name, rows, tokens))


def _print_lines(rows: list[list[float]], bar: Bar) -> None:
    bar.__exit__()
    for row in rows:
        answer_json(row)


def _object(model: str, rows: list[list[float]], tokens: int) -> dict[str, object]:
    """What `POST /v1/embeddings` answers."""
    data = [
        {"object": "embedding", "index": number, "embedding": row}
        for number, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": model, "data": data, "usage": usage}


def _rounded(value: float) -> float:
    return round(value * BASE) / BASE
