"""`llmchat fit REF`: what a model takes and whether it fits here, before any download and after."""

import click

from llmchat.cli.amounts import size
from llmchat.cli.discovering import fit_words, offers_of, show_offers
from llmchat.cli.measured import measured_words, speed_of
from llmchat.cli.options import fit_options, settings_of
from llmchat.cli.output import answer, answer_json
from llmchat.cli.parameters import AnyModelName
from llmchat.cli.parts import open_discovery, open_fits, open_models
from llmchat.core.fitting import Fit
from llmchat.errors import ExitCode, NotFound, UsageError
from llmchat.text import say
from llmchat.values import ModelFile, Wants


@click.command(help=say("cli.help_fit"))
@click.argument("ref", type=AnyModelName(), metavar="REF")
@fit_options
@click.option("--revision", default="", metavar="REV", help=say("cli.opt_revision"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def fit(ref: str, revision: str, as_json: bool, **load: object) -> int:
    """Code 1 when it does not fit, so that scripts can ask."""
    wants = settings_of(load).wants
    model = None if revision else _here(ref)
    if model is None and not open_discovery().reference(ref).selector:
        rows = offers_of(ref, wants, revision)
        show_offers(rows, as_json=as_json)
        return ExitCode.OK if any(row.best for row in rows) else ExitCode.FAILED
    return _show(_judged(ref, model, wants, revision), model, as_json)


def _here(ref: str) -> ModelFile | None:
    """The model, when it is on this disk; None when only a hub may have it.

    Raises:
        NotFound: it is a name of this disk, and there is none such. As `Models.resolve` otherwise.
    """
    try:
        return open_models().resolve(ref)
    except NotFound as missing:
        try:
            open_discovery().reference(ref)
        except UsageError:
            raise missing from None
    return None


def _judged(ref: str, model: ModelFile | None, wants: Wants, revision: str) -> Fit:
    fits = open_fits()
    return fits.of(model, wants) if model else fits.remote(ref, wants, revision)


def _show(found: Fit, model: ModelFile | None, as_json: bool) -> int:
    fits = found.verdict != "no"
    code = ExitCode.OK if fits else ExitCode.FAILED
    speed = speed_of(model.identity) if model else None
    if as_json:
        answer_json({"fit": found, "speed": speed})
        return code
    kinds = f"K {found.cache_type_k}, V {found.cache_type_v}"
    rows = [
        ("name", found.name),
        ("verdict", fit_words(found)),
        ("context", f"{found.n_ctx} ({kinds})"),
        ("weights", size(found.weights)),
        ("kv", size(found.kv)),
        ("compute", size(found.compute)),
        ("projector", size(found.projector) if found.projector else ""),
        ("total", size(found.total)),
        ("pool", size(found.pool_total) if found.pool_total > found.total and fits else ""),
        ("largest", say("cli.fit_of", n=found.largest_ctx, of=found.n_ctx_train) if fits else ""),
        ("speed", measured_words(speed)),
    ]
    labelled = [(say(f"cli.fit_row_{label}"), value) for label, value in rows if value]
    for use in found.devices:
        words = say("cli.fit_device", need=size(use.need), free=size(use.free))
        labelled.append((use.name, words))
    width = max(len(label) for label, _ in labelled)
    for label, value in labelled:
        answer(f"{label:{width}}  {value}")
    return code
