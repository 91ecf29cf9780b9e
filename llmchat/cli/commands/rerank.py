"""`llmchat rerank`: documents in the order in which they answer a query."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from llmchat.cli.asking import asking, choose
from llmchat.cli.commands.embed import lines_of
from llmchat.cli.options import load_options, settings_of
from llmchat.cli.output import answer_json, table
from llmchat.cli.parameters import ModelName, Whole
from llmchat.cli.progress import Bar
from llmchat.cli.prompt import as_text, piped
from llmchat.errors import UsageError
from llmchat.text import say
from llmchat.values import ChatSettings, ModelFile

if TYPE_CHECKING:
    from llmchat.engine.protocol import Reranked


@click.command(help=say("cli.help_rerank"))
@click.argument("model", type=ModelName())
@click.argument("query")
@click.argument("documents", nargs=-1)
@click.option("--top", type=Whole(1), help=say("cli.opt_top"))
@click.option("--truncate", is_flag=True, help=say("cli.opt_truncate"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_rerank_json"))
@load_options
def rerank(
    model: str,
    query: str,
    documents: tuple[str, ...],
    top: int | None,
    truncate: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - a dozen flags by name
) -> None:
    """Documents are the words, or else the lines of stdin."""
    texts = [as_text(word) for word in documents] or lines_of(piped())
    if not texts:
        raise UsageError("cli.no_documents")
    chosen = choose(model, "rerank")
    found = asyncio.run(
        _rerank(chosen, settings_of(given), as_text(query), texts, truncate=truncate)
    )
    order = sorted(range(len(texts)), key=lambda place: -found.scores[place])[:top]
    if as_json:
        results = [
            {"index": place, "relevance_score": found.scores[place], "document": texts[place]}
            for place in order
        ]
        usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
        answer_json({"model": chosen.name, "results": results, "usage": usage})
        return
    rows = [(f"{found.scores[place]:.4f}", str(place + 1), texts[place]) for place in order]
    table(("SCORE", "NO", "DOCUMENT"), rows)


async def _rerank(
    model: ModelFile, flags: ChatSettings, query: str, texts: list[str], *, truncate: bool
) -> "Reranked":
    async with asking(model, flags, "rerank") as session:
        with Bar(say("cli.ranking")) as bar:

            def show(done: int, total: int) -> None:
                bar.share(say("cli.ranking"), done / total, str(total))

            return await session.rerank(query, texts, truncate=truncate, on_progress=show)
