"""Where a model's layers go: on which device, how many, with how much context. Pure.

Owns the search, against *free* memory less a margin. It gets a list of devices and a function that
measures one try, so the worker runs it with llama.cpp's own sizes, and core, before a download,
with a formula's: both say the same. What the user fixed stays fixed. Refuses llama.cpp.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from llmchat.engine.protocol import Device
from llmchat.values import CacheType, Wants

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


class Sizes(Struct, frozen=True):
    """Bytes of one device."""

    model: int = 0
    context: int = 0
    compute: int = 0
    adapters: int = 0

    @property
    def allocated(self) -> int:
        """What must be free on a CPU, where weights are mapped from the file."""
        return self.context + self.compute + self.adapters

    @property
    def total(self) -> int:
        """All of them."""
        return self.model + self.allocated


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
    cache_type: CacheType = "f16"
    """Of keys and values, where the user has not said."""


class Impossible(Exception):
    """llama.cpp refuses a try: a cache of this type, for this model, on these devices."""


Measure = Callable[[Try], dict[str, Sizes]]
"""Bytes per device name that a try takes. Raises Impossible for a cache type of our choosing."""

SMALL_CACHE: Final[CacheType] = "q8_0"
"""Half the KV cache for a loss that is not noticed."""


class Placed(Struct, frozen=True):
    """The search's answer."""

    choice: Try
    sizes: dict[str, Sizes]
    fits: bool


def place(
    devices: Sequence[Device],
    wants: Wants,
    model: Model,
    measure: Measure,
    *,
    widen: bool = True,
) -> Placed:
    """The best try: as many layers on GPUs as fit, then (`widen`) as large a pool as fits.

    A mixture of experts keeps all layers on the GPU and gives experts to the CPU first: attention
    and KV cache gain most there. Where only a smaller KV cache lets everything fit, it is halved.
    """
    search = _Search(devices, wants, model, measure)
    for n_ctx in contexts(wants, model):
        placed = search.at(n_ctx)
        if placed.fits:
            break
    return search.widen(placed) if widen else placed


def contexts(wants: Wants, model: Model) -> list[int]:
    """Contexts of one sequence to try, the best first."""
    if wants.n_ctx is not None:
        return [wants.n_ctx]
    first = min(model.n_ctx_train or DEFAULT_CTX, DEFAULT_CTX)
    sizes = [first]
    while sizes[-1] // 2 >= SMALLEST_CTX:
        sizes.append(sizes[-1] // 2)
    return sizes


class Batches(Struct, frozen=True, kw_only=True):
    """How many tokens and sequences a context works on at once."""

    n_batch: int
    n_ubatch: int
    n_seq_max: int


def batches(choice: Try, wants: Wants, model: Model) -> Batches:
    """What a try's context is opened with; larger batches where a GPU computes."""
    on_gpu = choice.n_gpu_layers > 0
    cells = choice.n_ctx * choice.pool
    n_batch = max(32, min(wants.n_batch or (2048 if on_gpu else 512), cells))
    return Batches(
        n_batch=n_batch,
        n_ubatch=max(32, min(wants.n_ubatch or 512, n_batch)),
        n_seq_max=N_SEQ_MAX_STATEFUL if model.stateful else N_SEQ_MAX,
    )


class _Search:
    def __init__(
        self, devices: Sequence[Device], wants: Wants, model: Model, measure: Measure
    ) -> None:
        self._free = {device.name: device.free for device in devices}
        self._gpus = {device.name for device in devices if device.type in GPU}
        self._wants, self._model, self._measure = wants, model, measure

    def _test(self, choice: Try) -> Placed:
        try:
            sizes = self._measure(choice)
        except Impossible:
            return Placed(choice, {}, False)
        return Placed(choice, sizes, all(self._fits(name, size) for name, size in sizes.items()))

    def _fits(self, name: str, size: Sizes) -> bool:
        if name in self._gpus:
            return size.total <= self._free[name] - MARGIN
        return size.allocated <= self._free.get(name, 0)

    def at(self, n_ctx: int) -> Placed:
        """The best try at this context: a small cache only if it lets everything fit, or at all."""
        full = self._layers(n_ctx, "f16")
        wants = self._wants
        fixed = wants.cache_type_k is not None or wants.cache_type_v is not None
        if fixed or wants.flash_attn == "off" or self._is_best(full):
            return full
        small = self._layers(n_ctx, SMALL_CACHE)
        return small if self._is_best(small) or (small.fits and not full.fits) else full

    def _is_best(self, placed: Placed) -> bool:
        best = self._model.n_layers if self._gpus else 0
        choice = placed.choice
        asked = isinstance(self._wants.n_gpu_layers, int)
        return placed.fits and (asked or (choice.n_gpu_layers == best and not choice.n_cpu_moe))

    def _layers(self, n_ctx: int, cache: CacheType) -> Placed:
        """The most layers on GPUs at this context."""
        wants = self._wants
        moe = wants.n_cpu_moe or 0
        base = Try(n_gpu_layers=0, n_cpu_moe=moe, n_ctx=n_ctx, pool=1, cache_type=cache)
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
