"""What LoRA files and control vectors take, on which device: what changes a layer lies beside it.

As llama.cpp places them (src/llama-adapter.cpp): in memory of their own, on the device of the
layer; a LoRA in the type that the file has. Refuses whether a file may be loaded (`adapters.py`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from llmchat.engine.placing import Model, Sizes, Try
from llmchat.gguf import Header

_BLOCK: Final = re.compile(r"blk\.(\d+)\.(.*)")
_EXPERTS: Final = re.compile(r"ffn_(up|down|gate|gate_up)_(ch|)exps")
_OUTPUT: Final = "output"
_INPUT: Final = -1

Place = tuple[int, bool]
"""A layer (-1: what reads the tokens; the last: the output's), and whether it is experts'."""


def lora_bytes(headers: Iterable[Header], model: Model) -> Counter[Place]:
    """Bytes of the files' tensors by place."""
    found: Counter[Place] = Counter()
    for header in headers:
        for tensor in header.tensors:
            block = _BLOCK.match(tensor.name)
            if block is not None:
                experts = _EXPERTS.match(block[2]) is not None
                found[min(int(block[1]), model.n_layers), experts] += tensor.size
            else:
                output = tensor.name.startswith(_OUTPUT)
                found[model.n_layers - 1 if output else _INPUT, False] += tensor.size
    return found


def vector_bytes(files: int, n_embd: int, model: Model) -> Counter[Place]:
    """Bytes of so many control vectors by place.

    The context has one row for every layer but the first, into which the mixture of all files
    goes; each file's own rows wait in RAM.
    """
    if not files:
        return Counter()
    row, layers = 4 * n_embd, range(1, model.n_layers - 1)
    found: Counter[Place] = Counter({(layer, False): row for layer in layers})
    found[_INPUT, False] = files * row * max(1, len(layers))
    return found


def with_adapters(
    sizes: Mapping[str, Sizes],
    adapters: Counter[Place],
    choice: Try,
    model: Model,
    gpus: Sequence[str],
) -> dict[str, Sizes]:
    """A try's sizes by device, its adapters among them.

    Layers go to GPUs from the last one on, experts to the CPU from the first. Several GPUs share
    theirs as they share the weights.
    """
    first = model.n_layers - choice.n_gpu_layers
    on_gpu = sum(
        size
        for (layer, experts), size in adapters.items()
        if layer >= max(0, first) and not (experts and layer < choice.n_cpu_moe)
    )
    weights = {name: sizes[name].model for name in gpus if name in sizes}
    total = sum(weights.values())
    on_gpu = on_gpu if total else 0
    shares = {name: -(-on_gpu * own // total) for name, own in weights.items() if total}
    shares["CPU"] = adapters.total() - on_gpu
    return {
        name: replace(sizes.get(name, Sizes()), adapters=shares.get(name, 0))
        for name in (*sizes, *(name for name in shares if name not in sizes))
    }
