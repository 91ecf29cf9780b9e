"""Where a model's bytes would lie, from its header alone: the formula as placement asks for it.

Owns dividing weights, cache and buffers among devices as llama.cpp does (src/llama-model.cpp,
load_tensors): the last `n_gpu_layers` go to the GPUs, the output first; each GPU gets layers in
proportion to its free memory; token embeddings stay in RAM. Pure. Refuses to search (`place`).
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate

from llmchat.engine.placing import GPU, Batches, Model, Sizes, Try, batches
from llmchat.engine.protocol import Device
from llmchat.gguf.memory import compute_bytes, layer_bytes, mask_cells
from llmchat.gguf.shape import Shape
from llmchat.values import Wants

RAM = "CPU"


def model_of(shape: Shape, wants: Wants) -> Model:
    """What placement needs to know of a model."""
    window = shape.window > 0 and not wants.swa_full
    return Model(
        n_layers=len(shape.layers) + 1,
        n_ctx_train=shape.n_ctx_train,
        n_experts=shape.n_expert,
        stateful=window or any(layer.state for layer in shape.layers),
    )


class Estimate:
    """Measures tries with the formula. Calling it is what `engine.placing.place` does."""

    def __init__(self, shape: Shape, wants: Wants, devices: Sequence[Device]) -> None:
        self.model = model_of(shape, wants)
        self._shape, self._wants = shape, wants
        self._ram = next((d.name for d in devices if d.type == "cpu"), RAM)
        gpus = [device for device in devices if device.type in GPU]
        if wants.split_mode == "none":
            gpus = gpus[wants.main_gpu or 0 :][:1]
        self._gpus = [device.name for device in gpus]
        shares = wants.tensor_split or [device.free for device in gpus]
        self._shares = list(accumulate(shares[: len(gpus)]))

    def __call__(self, choice: Try) -> dict[str, Sizes]:
        """Bytes per device name."""
        sizes = batches(choice, self._wants, self.model)
        weights, context = self._laid_out(choice, sizes)
        compute = self._compute(choice, sizes)
        names = {*weights, *context, *compute, self._ram, *self._gpus}
        return {name: Sizes(weights[name], context[name], compute[name]) for name in names}

    def _laid_out(
        self, choice: Try, sizes: Batches
    ) -> tuple[defaultdict[str, int], defaultdict[str, int]]:
        """Weights, and cache, of each device."""
        shape, wants = self._shape, self._wants
        weights: defaultdict[str, int] = defaultdict(int)
        context: defaultdict[str, int] = defaultdict(int)
        weights[self._ram] += shape.inputs
        kinds = wants.cache_type_k or choice.cache_type, wants.cache_type_v or choice.cache_type
        for number, layer in enumerate(shape.layers):
            home = self._home(number, choice)
            weights[home] += layer.weights
            weights[self._ram if number < choice.n_cpu_moe else home] += layer.experts
            context[home] += layer_bytes(
                shape, layer, choice.n_ctx * choice.pool, *kinds, n_ubatch=sizes.n_ubatch,
                n_seq=sizes.n_seq_max, swa_full=bool(wants.swa_full),
            )  # fmt: skip
        last = self._home(len(shape.layers), choice)
        weights[last] += shape.outputs
        if shape.tied and last != self._ram:
            weights[last] += shape.inputs
        return weights, context

    def _home(self, number: int, choice: Try) -> str:
        """The device of a layer; the one after the last is the output."""
        on_gpus = min(choice.n_gpu_layers, self.model.n_layers)
        place = number - (self.model.n_layers - on_gpus)
        if place < 0 or not self._gpus or self._shares[-1] <= 0:
            return self._ram
        if len(self._gpus) == 1:
            return self._gpus[0]
        return self._gpus[
            min(bisect_right(self._shares, place / on_gpus * self._shares[-1]), len(self._gpus) - 1)
        ]

    def _compute(self, choice: Try, sizes: Batches) -> defaultdict[str, int]:
        """Buffers: a whole one where layers are computed, what goes in and out in RAM."""
        shape, wants = self._shape, self._wants
        cells, full = choice.n_ctx * choice.pool, bool(wants.swa_full)
        whole = compute_bytes(
            shape, cells, n_ubatch=sizes.n_ubatch, n_seq=sizes.n_seq_max,
            flash_attn=wants.flash_attn != "off", swa_full=full,
        )  # fmt: skip
        compute: defaultdict[str, int] = defaultdict(int)
        homes = {self._home(number, choice) for number in range(len(shape.layers) + 1)}
        for home in homes:
            compute[home] = whole
        if self._ram not in homes:
            masks = mask_cells(
                shape, cells, n_ubatch=sizes.n_ubatch, n_seq=sizes.n_seq_max, swa_full=full
            )
            inputs = 2 * masks + 4 * shape.n_embd
            # Experts in RAM are computed there.
            compute[self._ram] = whole if choice.n_cpu_moe else inputs * sizes.n_ubatch
        return compute
