"""Where a model lies: layers on which device, how much context, experts on the CPU.

Owns the search, against *free* memory less a margin, and its explanation in a sentence. What the
user fixed stays fixed. `place` is pure: it gets a list of devices and a function that measures one
try, so it is tested on recorded machines. `decide` runs it on this one.
"""

from collections.abc import Callable, Sequence
from typing import Final

from llama_cpp import llama_cpp as lib
from msgspec import Struct
from msgspec.structs import replace

from llmchat.engine.protocol import Device, Placement
from llmchat.engine.worker import devices as machine
from llmchat.engine.worker.capi import Pointer
from llmchat.engine.worker.cores import physical_cores
from llmchat.engine.worker.kv import Kind
from llmchat.engine.worker.loader import ContextParams, ModelParams
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.measure import Meter
from llmchat.engine.worker.sizes import Sizes
from llmchat.errors import EngineError
from llmchat.text import say
from llmchat.values import Wants

DEFAULT_CTX: Final = 8192
"""Tokens of one sequence when nobody asks for more; less when the model was trained for less."""
SMALLEST_CTX: Final = 2048
"""`auto` does not shrink the context below this."""
POOLS: Final = (4, 2)
"""How many sequences' worth of cells the pool gets, when that fits."""
MARGIN: Final = 512 << 20
"""Bytes of a GPU that stay free: other programs, and buffers that nobody counts."""
SPARE_RAM: Final = 0.25
"""Share of free RAM that the pool's extra cells may take."""
N_SEQ_MAX: Final = 64
N_SEQ_MAX_STATEFUL: Final = 8
"""Sliding windows and recurrent states are allocated for each sequence."""
GPU: Final = ("gpu", "igpu")


class Model(Struct, frozen=True, kw_only=True):
    """What placement needs to know of a model."""

    n_layers: int
    """As llama.cpp counts what it offloads: the blocks and the output layer."""
    n_ctx_train: int
    n_experts: int = 0
    stateful: bool = False
    """Sliding window without swa_full, recurrent or hybrid."""


class Try(Struct, frozen=True, kw_only=True):
    """One way to place it."""

    n_gpu_layers: int
    n_cpu_moe: int
    n_ctx: int
    pool: int
    """Sequences' worth of cells."""


Measure = Callable[[Try], dict[str, Sizes]]
"""Bytes per device name that a try takes."""


class Placed(Struct, frozen=True):
    """The search's answer."""

    choice: Try
    sizes: dict[str, Sizes]
    fits: bool


class Decision(Struct, frozen=True, kw_only=True):
    """Everything that the loader needs, and what is told about it."""

    devices: tuple[Device, ...]
    needs: dict[str, int]
    placement: Placement
    memory: dict[str, int]
    model: ModelParams
    context: ContextParams
    n_ctx: int


def place(devices: Sequence[Device], wants: Wants, model: Model, measure: Measure) -> Placed:
    """The best try: as many layers on GPUs as fit, then as large a pool as fits.

    A mixture of experts keeps all layers on the GPU and gives experts to the CPU first: attention
    and KV cache gain most there.
    """
    search = _Search(devices, wants, model, measure)
    for n_ctx in _contexts(wants, model):
        placed = search.layers(n_ctx)
        if placed.fits:
            break
    return search.widen(placed)


def _contexts(wants: Wants, model: Model) -> list[int]:
    if wants.n_ctx is not None:
        return [wants.n_ctx]
    first = min(model.n_ctx_train or DEFAULT_CTX, DEFAULT_CTX)
    sizes = [first]
    while sizes[-1] // 2 >= SMALLEST_CTX:
        sizes.append(sizes[-1] // 2)
    return sizes


class _Search:
    def __init__(
        self, devices: Sequence[Device], wants: Wants, model: Model, measure: Measure
    ) -> None:
        self._free = {device.name: device.free for device in devices}
        self._gpus = {device.name for device in devices if device.type in GPU}
        self._wants, self._model, self._measure = wants, model, measure

    def _test(self, choice: Try) -> Placed:
        sizes = self._measure(choice)
        return Placed(choice, sizes, all(self._fits(name, size) for name, size in sizes.items()))

    def _fits(self, name: str, size: Sizes) -> bool:
        if name in self._gpus:
            return size.total <= self._free[name] - MARGIN
        # Weights on the CPU are mapped from the file: only what is allocated must be free.
        return size.context + size.compute <= self._free.get(name, 0)

    def layers(self, n_ctx: int) -> Placed:
        """The most layers on GPUs at this context."""
        wants = self._wants
        moe = wants.n_cpu_moe or 0
        base = Try(n_gpu_layers=0, n_cpu_moe=moe, n_ctx=n_ctx, pool=1)
        everything = replace(base, n_gpu_layers=self._model.n_layers)
        if isinstance(wants.n_gpu_layers, int):
            few = min(max(0, wants.n_gpu_layers), self._model.n_layers)
            chosen = self._model.n_layers if wants.n_gpu_layers < 0 else few
            return self._test(replace(base, n_gpu_layers=chosen if self._gpus else 0))
        if not self._gpus:
            return self._test(base)
        placed = self._test(everything)
        if placed.fits or wants.n_gpu_layers == "all":
            return placed
        if self._model.n_experts and wants.n_cpu_moe is None:
            most = self._model.n_layers - 1
            found = self._first_fit(1, most, lambda count: replace(everything, n_cpu_moe=count))
            if found is not None:
                return found
        found = self._first_fit(
            1, self._model.n_layers,
            lambda fewer: replace(base, n_gpu_layers=self._model.n_layers - fewer),
        )  # fmt: skip
        return found or self._test(base)

    def _first_fit(self, low: int, high: int, make: Callable[[int], Try]) -> Placed | None:
        """The smallest number whose try fits; fitting is taken as monotone. None: none does."""
        best = None
        while low <= high:
            middle = (low + high) // 2
            placed = self._test(make(middle))
            if placed.fits:
                best, high = placed, middle - 1
            else:
                low = middle + 1
        return best

    def widen(self, placed: Placed) -> Placed:
        """The same with a larger pool, when there is room for it."""
        if not placed.fits:
            return placed
        for pool in POOLS:
            wider = self._test(replace(placed.choice, pool=pool))
            if wider.fits and self._modest(placed, wider):
                return wider
        return placed

    def _modest(self, placed: Placed, wider: Placed) -> bool:
        for name, size in wider.sizes.items():
            if name not in self._gpus:
                extra = size.total - placed.sizes.get(name, Sizes()).total
                if extra > SPARE_RAM * self._free.get(name, 0):
                    return False
        return True


def explain(devices: Sequence[Device], model: Model, placed: Placed) -> str:
    """The placement in one sentence, e.g. `29/33 layers on CUDA0 (7.2 of 7.9 GiB free)`."""
    choice = placed.choice
    free = {device.name: device.free for device in devices if device.type in GPU}
    used = [name for name in free if placed.sizes.get(name, Sizes()).total]
    if not choice.n_gpu_layers or not used:
        cpu = sum(size.total for size in placed.sizes.values())
        return say("engine.placed_cpu", layers=model.n_layers, need=_gib(cpu))
    where = ", ".join(
        say("engine.placed_device", name=name, need=_gib(placed.sizes[name].total),
            free=_gib(free[name]))
        for name in used
    )  # fmt: skip
    words = say("engine.placed_gpu", layers=choice.n_gpu_layers, of=model.n_layers, where=where)
    if choice.n_cpu_moe:
        words += say("engine.placed_experts", layers=choice.n_cpu_moe)
    return words if placed.fits else words + say("engine.placed_tight")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def memory_kind(model: Pointer, swa_full: bool) -> Kind:
    """What a prefix of this model can be reused for."""
    stateful = lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model)
    n_swa = 0 if swa_full else int(lib.llama_model_n_swa(model))
    return Kind(n_swa=n_swa, whole_only=bool(stateful))


def decide(paths: Sequence[str], wants: Wants, log: LogRing) -> Decision:
    """Place a model on this machine.

    Raises:
        EngineError: it cannot be read, a device is not there, or it cannot fit at all.
    """
    found = machine.find_devices()
    chosen = _chosen(found, wants)
    listed = tuple(item.device for item in found)
    usable = [item.device for item in chosen] + [
        item.device for item in found if item.device.type not in GPU
    ]
    with Meter(paths, log) as meter:
        model = _model(meter.model, wants)

        def measure(choice: Try) -> dict[str, Sizes]:
            return meter.measure(
                model_params(choice, wants, chosen, found), context_params(choice, wants, model)
            )

        placed = place(usable, wants, model, measure)
    _refuse_impossible(usable, placed)
    choice = placed.choice
    return Decision(
        devices=listed,
        needs={name: size.total for name, size in placed.sizes.items()},
        placement=Placement(
            n_gpu_layers=choice.n_gpu_layers,
            n_layers=model.n_layers,
            memory={name: size.total for name, size in placed.sizes.items()},
            explanation=explain(usable, model, placed),
        ),
        memory={
            kind: sum(getattr(size, kind) for size in placed.sizes.values())
            for kind in ("model", "context", "compute")
        },
        model=model_params(choice, wants, chosen, found),
        context=context_params(choice, wants, model),
        n_ctx=choice.n_ctx,
    )


def _chosen(found: Sequence[machine.Found], wants: Wants) -> list[machine.Found]:
    """The GPUs that may be used, in the user's order.

    Raises:
        EngineError: a device that is not there.
    """
    gpus = [item for item in found if item.device.type in GPU]
    if wants.devices is None:
        return gpus
    by_name = {item.device.name.lower(): item for item in gpus}
    names = [name for name in wants.devices if name.lower() not in ("none", "cpu")]
    for name in names:
        if name.lower() not in by_name:
            known = ", ".join(item.device.name for item in gpus) or "CPU"
            raise EngineError("engine.no_device", name=name, known=known)
    return [by_name[name.lower()] for name in names]


def _model(pointer: Pointer, wants: Wants) -> Model:
    stateful = lib.llama_model_is_recurrent(pointer) or lib.llama_model_is_hybrid(pointer)
    window = lib.llama_model_n_swa(pointer) > 0 and not wants.swa_full
    return Model(
        n_layers=int(lib.llama_model_n_layer(pointer)) + 1,
        n_ctx_train=int(lib.llama_model_n_ctx_train(pointer)),
        n_experts=Meter.experts(pointer),
        stateful=bool(stateful or window),
    )


def model_params(
    choice: Try, wants: Wants, chosen: Sequence[machine.Found], found: Sequence[machine.Found]
) -> ModelParams:
    """What the loader gets for a try."""
    everywhere = wants.devices is None
    return ModelParams(
        n_gpu_layers=choice.n_gpu_layers,
        devices=None if everywhere else tuple(item.handle for item in chosen),
        main_gpu=max(0, min(wants.main_gpu or 0, max(0, len(chosen) - 1))),
        split_mode=wants.split_mode or "layer",
        tensor_split=tuple(wants.tensor_split or ())[: lib.LLAMA_MAX_DEVICES],
        use_mmap=wants.use_mmap,
        use_mlock=bool(wants.use_mlock),
        n_cpu_moe=choice.n_cpu_moe,
        cpu_buffer=machine.cpu_buffer() if found else 0,
    )


def context_params(choice: Try, wants: Wants, model: Model) -> ContextParams:
    """What the context gets for a try."""
    pool = choice.n_ctx * choice.pool
    on_gpu = choice.n_gpu_layers > 0
    n_batch = max(32, min(wants.n_batch or (2048 if on_gpu else 512), pool))
    n_seq_max = N_SEQ_MAX_STATEFUL if model.stateful else N_SEQ_MAX
    return ContextParams(
        n_ctx=pool,
        n_seq_max=n_seq_max,
        n_batch=n_batch,
        n_ubatch=max(32, min(wants.n_ubatch or 512, n_batch)),
        n_threads=max(1, min(wants.n_threads or physical_cores(), 512)),
        cache_type_k=wants.cache_type_k or "f16",
        cache_type_v=wants.cache_type_v or "f16",
        flash_attn=wants.flash_attn or "auto",
        swa_full=bool(wants.swa_full),
    )


def _refuse_impossible(devices: Sequence[Device], placed: Placed) -> None:
    """A context that RAM cannot hold would be killed by the kernel, without a word.

    Raises:
        EngineError: with what it needs and what is free.
    """
    for device in devices:
        size = placed.sizes.get(device.name, Sizes())
        need = size.context + size.compute
        if device.type == "cpu" and need > device.free > 0:
            raise EngineError(
                "engine.does_not_fit", need=_gib(need), free=_gib(device.free),
                n_ctx=placed.choice.n_ctx,
            )  # fmt: skip
