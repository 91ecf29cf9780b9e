"""`llmchat show MODEL`: what a model is, in its header's words."""

from typing import TYPE_CHECKING

import click

from llmchat.cli.amounts import count, size
from llmchat.cli.output import answer, answer_json, table
from llmchat.cli.parameters import ModelName
from llmchat.cli.parts import open_models
from llmchat.text import say
from llmchat.values import ModelFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmchat.gguf.reader import Tensor
    from llmchat.library.headers import ModelDescription


@click.command(help=say("cli.about_show"))
@click.argument("model", type=ModelName(), metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
@click.option("--template", is_flag=True, help=say("cli.opt_template"))
@click.option("--metadata", is_flag=True, help=say("cli.opt_metadata"))
@click.option("--tensors", is_flag=True, help=say("cli.opt_tensors"))
def show(model: str, as_json: bool, template: bool, metadata: bool, tensors: bool) -> None:
    """One view at a time; without a flag, the facts that matter."""
    models = open_models()
    file = models.resolve(model)
    if tensors:
        _show_tensors(file, as_json)
        return
    described = models.describe(file)
    if as_json:
        answer_json(described)
    elif template:
        answer(described.about.chat_template)
    elif metadata:
        table(("KEY", "VALUE"), list(described.metadata.items()))
    else:
        width = max(len(label) for label, _ in _facts(described))
        for label, value in _facts(described):
            answer(f"{label:{width}}  {value}")


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
