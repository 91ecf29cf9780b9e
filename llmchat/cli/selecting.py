"""Which variant is meant when a reference names none, and why: said before anything is fetched.

On a terminal the largest of 4 to 8 bits that fits this machine now; in a pipe a fixed rule, so that
a script takes the same with whatever memory is free. What is here already comes first.
"""

from llmchat.cli.amounts import size
from llmchat.cli.discovering import fit_words
from llmchat.cli.output import can_ask, end_status, note
from llmchat.cli.parts import open_discovery, open_fits
from llmchat.core.downloads import DownloadPlan
from llmchat.core.fitting import Judged
from llmchat.errors import HubError, UsageError
from llmchat.text import say


def names_variant(ref: str) -> bool:
    """Whether nothing is left to choose: a selector, a file, or no repository at all."""
    try:
        reference = open_discovery().reference(ref)
    except UsageError:
        return True  # planning has the sentence for it
    return bool(reference.selector)


def select(ref: str, revision: str = "") -> str:
    """`ref` with the variant that fits this machine; unchanged where a plan decides better.

    Raises:
        NotFound: no such repository. UsageError: no reference.
    """
    try:
        rows = open_fits().variants(ref, revision=revision)
    except HubError:
        return ref  # planning asks again, with more patience
    here = [row for row in rows if row.offer.here >= row.offer.size]
    chosen = next((row for row in here if row.best), here[-1] if here else None)
    if chosen is not None or len(rows) < 2:
        return chosen.offer.name if chosen else ref
    best = next((row for row in rows if row.best), None)
    if best is None:
        _say_nothing_fits(rows)
        return ref
    assert best.fit is not None
    end_status()
    note(
        say(
            "cli.selected",
            name=best.offer.name,
            size=size(best.offer.size + best.offer.projector_size),
            fit=fit_words(best.fit),
            n_ctx=best.fit.n_ctx,
            count=len(rows),
        )
    )
    return best.offer.name


def say_fixed(plan: DownloadPlan) -> None:
    """Why a pipe got this variant."""
    note(say("cli.selected_fixed", name=plan.name))


def choose(ref: str, revision: str = "") -> str:
    """The reference to plan: a terminal's is made exact, a pipe's stays as it is."""
    return select(ref, revision) if can_ask() and not names_variant(ref) else ref


def _say_nothing_fits(rows: list[Judged]) -> None:
    judged = [row.fit for row in rows if row.fit is not None]
    if judged:
        least = min(judged, key=lambda fit: fit.total)
        free = sum(use.free for use in least.devices)
        end_status()
        note(say("cli.selected_none", need=size(least.total), free=size(free)))
