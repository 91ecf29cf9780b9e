"""`llmchat show MODEL`: what a model is, in its header's words, and how it does here.

A repository that is not on this disk shows what it offers; `--card` asks the hub in either case.
"""

from typing import TYPE_CHECKING

import click
import msgspec

from llmchat.cli.amounts import count, size
from llmchat.cli.discovering import fit_words, offers_of, show_card, show_offers
from llmchat.cli.measured import measured_words, speed_of
from llmchat.cli.output import answer, answer_json, table
from llmchat.cli.parameters import ModelName
from llmchat.cli.parts import open_discovery, open_fits, open_models
from llmchat.errors import EngineError, ModelFileError, NotFound, UsageError
from llmchat.text import say
from llmchat.values import ModelFile, Wants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmchat.core.fitting import Fit
    from llmchat.gguf.reader import Tensor
    from llmchat.library.headers import ModelDescription


@click.command(help=say("cli.help_show"))
@click.argument("model", type=ModelName(), metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
@click.option("--template", is_flag=True, help=say("cli.opt_template"))
@click.option("--metadata", is_flag=True, help=say("cli.opt_metadata"))
@click.option("--tensors", is_flag=True, help=say("cli.opt_tensors"))
@click.option("--card", is_flag=True, help=say("cli.opt_card"))
def show(
    model: str, as_json: bool, template: bool, metadata: bool, tensors: bool, card: bool
) -> None:
    """One view at a time; without a flag, the facts that matter."""
    file = _here(model, remote=card or not (template or metadata or tensors))
    if card:
        show_card(file.name if file else model)
    elif file is None:
        show_offers(offers_of(model, Wants()), as_json=as_json)
    elif tensors:
        _show_tensors(file, as_json)
    else:
        _show(file, as_json=as_json, template=template, metadata=metadata)


def _here(ref: str, *, remote: bool) -> ModelFile | None:
    """The model, when it is on this disk; None when `ref` names a hub's repository instead.

    Raises:
        NotFound: neither, or `remote` is not wanted. Otherwise as `Models.resolve`.
    """
    try:
        return open_models().resolve(ref)
    except NotFound as missing:
        if not remote:
            raise
        try:
            open_discovery().reference(ref)
        except UsageError:
            raise missing from None
    return None


def _show(file: ModelFile, *, as_json: bool, template: bool, metadata: bool) -> None:
    described = open_models().describe(file)
    if template and not as_json:
        answer(described.about.chat_template)
    elif metadata and not as_json:
        table(("KEY", "VALUE"), list(described.metadata.items()))
    elif as_json:
        about = {"fit": _fit(file), "speed": speed_of(file.identity)}
        answer_json(msgspec.to_builtins(described) | about)
    else:
        facts = _facts(described) + _here_facts(file)
        width = max(len(label) for label, _ in facts)
        for label, value in facts:
            answer(f"{label:{width}}  {value}")


def _here_facts(file: ModelFile) -> list[tuple[str, str]]:
    """How it does on this machine: what fits now, and what was measured."""
    fit = _fit(file)
    rows = [("speed", measured_words(speed_of(file.identity)))]
    if fit is not None:
        words = say("cli.show_fit_words", fit=fit_words(fit), size=size(fit.total), n=fit.n_ctx)
        rows.insert(0, ("fit", words))
    return [(say(f"cli.show_{label}"), value) for label, value in rows if value]


def _fit(file: ModelFile) -> "Fit | None":
    """The judgement; None where there is nothing to judge by: the facts stand without it."""
    try:
        return open_fits().of(file)
    except (EngineError, ModelFileError):
        return None


def _facts(described: "ModelDescription") -> list[tuple[str, str]]:
    """What the file does say, in words."""
    about, file = described.about, described.model
    layers = say("cli.show_layers", layers=about.n_layers, heads=about.n_head, kv=about.n_head_kv)
    rows = [
        ("name", file.name),
        ("title", about.name),
        ("architecture", about.architecture),
        ("parameters", count(about.parameters)),
        ("quantization", about.quantization),
        ("size", size(file.size)),
        ("context", str(about.n_ctx_train or "")),
        ("depth", layers if about.n_layers else ""),
        ("experts", f"{about.n_expert_used}/{about.n_expert}" if about.n_expert else ""),
        ("capabilities", ", ".join(about.capabilities)),
        ("license", about.license),
        ("path", file.path),
        ("projector", file.projector or ""),
        ("identity", file.identity),
    ]
    return [(say(f"cli.show_{label}"), value) for label, value in rows if value]


def _tensors(file: ModelFile) -> "Iterator[Tensor]":
    from llmchat.gguf.reader import read_header

    for path in file.shards or (file.path,):
        yield from read_header(path).tensors


def _show_tensors(file: ModelFile, as_json: bool) -> None:
    found = list(_tensors(file))
    if as_json:
        answer_json(
            [{"name": t.name, "shape": t.shape, "type": t.kind.name, "size": t.size} for t in found]
        )
        return
    rows = [(t.name, t.kind.name, " x ".join(map(str, t.shape)), size(t.size)) for t in found]
    table(("NAME", "TYPE", "SHAPE", "SIZE"), rows)
