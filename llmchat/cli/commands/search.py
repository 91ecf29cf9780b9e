"""`llmchat search WORDS`: what the hub has, before anything is fetched."""

import click
from msgspec import Struct

from llmchat.cli.amounts import ago, count
from llmchat.cli.discovering import offers_of, show_card, show_offers
from llmchat.cli.options import fit_options, settings_of
from llmchat.cli.output import answer, answer_json, note, table
from llmchat.cli.parts import open_discovery, open_models
from llmchat.core.discovery import SORTS, FoundModel, Page, Sort
from llmchat.errors import ExitCode, UsageError
from llmchat.library.shortnames import ShortName
from llmchat.text import say


class ShortRow(Struct, frozen=True, kw_only=True):
    """A short name, what it stands for, and whether that is on this disk."""

    name: str
    repo: str
    variant: str
    here: bool


@click.command(help=say("cli.help_search"))
@click.argument("words", nargs=-1, metavar="[WORDS...]")
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
    """Repositories a page; with --variants or --card, one repository more closely.

    Without words the short names, which need no hub.
    """
    text = " ".join(words)
    if not text.strip():
        if variants or card:
            raise UsageError("hub.not_a_repository", ref=text)
        _show_short_names(as_json=as_json, quiet=quiet)
        return ExitCode.OK
    if card:
        show_card(text)
        return ExitCode.OK
    if variants:
        show_offers(offers_of(text, settings_of(load).wants), as_json=as_json, quiet=quiet)
        return ExitCode.OK
    return _show_found(_page(text, sort, limit, page), text, page, as_json=as_json, quiet=quiet)


def _show_found(found: Page, words: str, page: int, *, as_json: bool, quiet: bool) -> int:
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
        note(say("cli.search_none" if page == 1 else "cli.search_no_page", words=words, page=page))
        return ExitCode.NOT_FOUND
    if found.next and not as_json and not quiet:
        note(say("cli.search_more", page=page + 1))
    return ExitCode.OK


def _show_short_names(*, as_json: bool, quiet: bool) -> None:
    models = open_models()
    here = {name for model in models.list() for name in (model.name, model.name.split(":")[0])}
    rows = [
        ShortRow(name=name, repo=entry.repo, variant=entry.selector or entry.file,
                 here=_is_here(entry, here))
        for name, entry in models.shortnames.items()
    ]  # fmt: skip
    if as_json:
        answer_json(rows)
    elif quiet:
        for row in rows:
            answer(row.name)
    else:
        table(
            ("NAME", "REPOSITORY", "VARIANT", "HERE"),
            [(r.name, r.repo, r.variant or "-", say("cli.search_here") if r.here else "")
             for r in rows],
        )  # fmt: skip
        note(say("cli.search_short"))


def _is_here(entry: ShortName, here: set[str]) -> bool:
    exact = f"{entry.repo}:{entry.selector}" if entry.selector else entry.repo
    return entry.name in here or exact in here


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
