"""What a repository of the hub offers: its variants with their fit, and its model card."""

from llmchat.cli.amounts import size
from llmchat.cli.output import answer, answer_json, note, table
from llmchat.cli.parts import open_discovery, open_fits
from llmchat.core.fitting import Fit, Judged
from llmchat.errors import NotFound
from llmchat.text import say
from llmchat.values import Wants

STAR = "★"


def show_card(ref: str, revision: str = "") -> None:
    """A repository's model card, as plain text."""
    answer(open_discovery().card(ref, revision))


def offers_of(ref: str, wants: Wants, revision: str = "") -> list[Judged]:
    """The variants of a repository, each with its fit.

    Raises:
        NotFound: no such repository, or nothing in it that runs. Otherwise as `Fits.variants`.
    """
    rows = open_fits().variants(ref, wants, revision)
    if not rows:
        raise NotFound("library.no_models_in_repo", repo=ref)
    return rows


def show_offers(rows: list[Judged], *, as_json: bool = False, quiet: bool = False) -> None:
    """NAME, SIZE, FIT and what is here already; the best with a star."""
    if as_json:
        answer_json(rows)
        return
    if quiet:
        for row in rows:
            answer(row.offer.name)
        return
    table(
        ("NAME", "SIZE", "FIT", "HERE"),
        [
            (
                row.offer.name,
                size(row.offer.size + row.offer.projector_size),
                fit_words(row.fit) + (f" {STAR}" if row.best else ""),
                _here(row),
            )
            for row in rows
        ],
    )
    judged = next((row.fit for row in rows if row.fit is not None), None)
    if judged is None:
        note(say("cli.fit_no_header"))
    elif any(row.best for row in rows):
        note(say("cli.fit_star", n_ctx=judged.n_ctx))


def fit_words(fit: Fit | None) -> str:
    """The verdict in two or three words."""
    if fit is None:
        return "-"
    layers = f"{fit.n_gpu_layers}/{fit.n_layers}"
    if fit.verdict == "partial" and fit.n_cpu_moe:
        return say("cli.fit_partial_experts", layers=fit.n_cpu_moe)
    return say(f"cli.fit_{fit.verdict}", layers=layers)


def _here(row: Judged) -> str:
    if row.offer.here >= row.offer.size:
        return say("cli.search_here")
    return size(row.offer.here) if row.offer.here else ""
