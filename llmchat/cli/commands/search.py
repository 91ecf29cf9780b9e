"""`llmchat search WORDS`: what the hub has, before anything is fetched."""

import click

from llmchat.cli.amounts import ago, count
from llmchat.cli.discovering import offers_of, show_card, show_offers
from llmchat.cli.options import fit_options, settings_of
from llmchat.cli.output import answer, answer_json, note, table
from llmchat.cli.parts import open_discovery
from llmchat.core.discovery import SORTS, FoundModel, Page, Sort
from llmchat.errors import ExitCode
from llmchat.text import say


@click.command(help=say("cli.help_search"))
@click.argument("words", nargs=-1, required=True, metavar="WORDS...")
@click.option("--limit", type=click.IntRange(1, 100), default=20, help=say("cli.opt_limit_search"))
@click.option("--page", type=click.IntRange(1, 1000), default=1, help=say("cli.opt_page"))
@click.option("--sort", type=click.Choice(SORTS), default="best", help=say("cli.opt_sort"))
@click.option("--variants", is_flag=True, help=say("cli.opt_variants"))
@click.option("--card", is_flag=True, help=say("cli.opt_card"))
@fit_options
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
@click.option("-q", "--quiet", is_flag=True, help=say("cli.opt_names_only"))
def search(
    words: tuple[str, ...],
    limit: int,
    page: int,
    sort: Sort,
    variants: bool,
    card: bool,
    as_json: bool,
    quiet: bool,
    **load: object,
) -> int:
    """Repositories a page; with --variants or --card, one repository more closely."""
    text = " ".join(words)
    if card:
        show_card(text)
        return ExitCode.OK
    if variants:
        show_offers(offers_of(text, settings_of(load).wants), as_json=as_json, quiet=quiet)
        return ExitCode.OK
    found = _page(text, sort, limit, page)
    if as_json:
        answer_json({"models": found.models, "page": page, "more": bool(found.next)})
    elif quiet:
        for model in found.models:
            answer(model.repo)
    elif found.models:
        table(
            ("NAME", "PARAMS", "DOWNLOADS", "LIKES", "UPDATED", "LICENSE", "CAPABILITIES"),
            [_row(model) for model in found.models],
        )
    if not found.models:
        note(say("cli.search_none" if page == 1 else "cli.search_no_page", words=text, page=page))
        return ExitCode.NOT_FOUND
    if found.next and not as_json and not quiet:
        note(say("cli.search_more", page=page + 1))
    return ExitCode.OK


def _page(words: str, sort: Sort, limit: int, number: int) -> Page:
    """The hub's pages follow each other: the ones before are asked for too."""
    discovery = open_discovery()
    page = discovery.search(words, sort=sort, limit=limit)
    for _ in range(number - 1):
        if not page.next:
            return Page(models=())
        page = discovery.search(words, sort=sort, limit=limit, after=page.next)
    return page


def _row(model: FoundModel) -> tuple[str, ...]:
    notes = [*model.capabilities]
    if model.gated:
        notes.append(say("cli.search_gated"))
    if model.private:
        notes.append(say("cli.search_private"))
    return (
        model.repo,
        count(model.parameters) or "-",
        count(model.downloads) or "0",
        count(model.likes) or "0",
        ago(model.updated) if model.updated else "-",
        model.license or "-",
        ", ".join(notes),
    )
