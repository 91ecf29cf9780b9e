"""Whether a model fits: full, partial or no offload, the context that fits, the best variant. Pure.

Owns the judgement of a shape against devices with free memory; the search is the engine's own
(`engine/placing.py`), measured by the formula (`core/estimate.py`). Refuses files and networks.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from llmchat.core.discovery import Offer
from llmchat.core.estimate import Estimate
from llmchat.engine.placing import DEFAULT_CTX, GPU, Placed, place
from llmchat.engine.protocol import Device
from llmchat.gguf import Layer, Shape
from llmchat.library.variants import bits_of
from llmchat.values import Wants

Verdict = Literal["gpu", "partial", "ram", "no"]
"""all layers on GPUs · some of them · everything in RAM · not at all."""

FEWEST_BITS: Final = 4
MOST_BITS: Final = 8
"""What the best variant may have: below 4 bits a model is worse than a smaller one, and above 8
nothing is gained that a chat would show."""


class Use(Struct, frozen=True, kw_only=True):
    """What of a device a model would take. Bytes."""

    name: str
    type: str
    need: int
    free: int


class Fit(Struct, frozen=True, kw_only=True):
    """A model against this machine's free memory. Bytes."""

    name: str
    verdict: Verdict
    n_ctx: int
    """Tokens of one sequence that the sizes are for."""
    cache_type_k: str
    cache_type_v: str
    n_gpu_layers: int
    n_layers: int
    """As llama.cpp counts what it offloads: the blocks and the output layer."""
    n_cpu_moe: int
    """Layers whose experts stay in RAM."""
    weights: int
    kv: int
    compute: int
    projector: int
    total: int
    devices: tuple[Use, ...]
    largest_ctx: int = 0
    """The most tokens for which the verdict stays; 0 = not asked, or nothing fits."""
    pool_total: int = 0
    """What a load takes now, with room for several sequences where there is some."""
    n_ctx_train: int = 0


class Judged(Struct, frozen=True, kw_only=True):
    """A variant of a repository, and how it fits; `best` is the one to take."""

    offer: Offer
    fit: Fit | None
    best: bool = False


def judge(
    name: str,
    shape: Shape,
    projector: int,
    wants: Wants,
    devices: Sequence[Device],
    *,
    closely: bool = False,
) -> Fit:
    """A shape against devices; `closely` also looks for the largest context and the pool. Pure."""
    n_ctx = wants.n_ctx or min(shape.n_ctx_train or DEFAULT_CTX, DEFAULT_CTX)
    wants = replace(wants, n_ctx=n_ctx)
    room = _less(devices, projector)
    placed, verdict = _placed(shape, wants, room, devices)
    # The largest context and the pool are those of the cache types that were settled on.
    wants = replace(
        wants,
        cache_type_k=wants.cache_type_k or placed.choice.cache_type,
        cache_type_v=wants.cache_type_v or placed.choice.cache_type,
    )
    sizes = placed.sizes.values()
    weights, kv = sum(s.model for s in sizes), sum(s.context for s in sizes)
    compute = sum(s.compute for s in sizes)
    return Fit(
        name=name,
        verdict=verdict,
        n_ctx=n_ctx,
        cache_type_k=wants.cache_type_k or "f16",
        cache_type_v=wants.cache_type_v or "f16",
        n_gpu_layers=placed.choice.n_gpu_layers,
        n_layers=len(shape.layers) + 1,
        n_cpu_moe=placed.choice.n_cpu_moe,
        weights=weights,
        kv=kv,
        compute=compute,
        projector=projector,
        total=weights + kv + compute + projector,
        devices=_uses(placed, devices, projector),
        largest_ctx=_largest(shape, wants, room, devices, verdict) if closely else 0,
        pool_total=_pool_total(shape, wants, room, projector) if closely else 0,
        n_ctx_train=shape.n_ctx_train,
    )


def _placed(
    shape: Shape, wants: Wants, room: Sequence[Device], devices: Sequence[Device]
) -> tuple[Placed, Verdict]:
    estimate = Estimate(shape, wants, room)
    placed = place(room, wants, estimate.model, estimate, widen=False)
    choice = placed.choice
    used = {name for name, size in placed.sizes.items() if size.model + size.context}
    gpus = {device.name for device in devices if device.type in GPU}
    # Weights in RAM are mapped from the file: they must fit too, or each token reads a disk.
    ram = {device.name: device.free for device in room if device.type not in GPU}
    fits = placed.fits and all(
        placed.sizes[name].total <= free for name, free in ram.items() if name in placed.sizes
    )
    if not fits:
        return placed, "no"
    if not used & gpus:
        return placed, "ram"
    whole = choice.n_gpu_layers >= estimate.model.n_layers and not choice.n_cpu_moe
    return placed, "gpu" if whole else "partial"


def _less(devices: Sequence[Device], projector: int) -> list[Device]:
    """The devices without what a projector takes: the first GPU's, else RAM's."""
    gpus = [device for device in devices if device.type in GPU]
    holder = next(iter(gpus or devices), None)
    return [
        replace(device, free=max(0, device.free - projector)) if device is holder else device
        for device in devices
    ]


def _uses(placed: Placed, devices: Sequence[Device], projector: int) -> tuple[Use, ...]:
    holder = next((d.name for d in devices if d.type in GPU), devices[0].name if devices else "")
    found = []
    for device in devices:
        size = placed.sizes.get(device.name)
        need = (size.total if size else 0) + (projector if device.name == holder else 0)
        if need or device.type in GPU:
            found.append(Use(name=device.name, type=device.type, need=need, free=device.free))
    return tuple(found)


def _largest(
    shape: Shape, wants: Wants, room: Sequence[Device], devices: Sequence[Device], verdict: Verdict
) -> int:
    """The most tokens, in steps of 256, for which the verdict stays."""
    if verdict == "no":
        return 0
    low, high = 1, max(1, (shape.n_ctx_train or wants.n_ctx or DEFAULT_CTX) // 256)
    best = 0
    while low <= high:
        middle = (low + high) // 2
        tried = _placed(shape, replace(wants, n_ctx=middle * 256), room, devices)[1]
        if tried == verdict:
            best, low = middle * 256, middle + 1
        else:
            high = middle - 1
    return best


def _pool_total(shape: Shape, wants: Wants, room: Sequence[Device], projector: int) -> int:
    estimate = Estimate(shape, wants, room)
    placed = place(room, wants, estimate.model, estimate)
    return sum(size.total for size in placed.sizes.values()) + projector


def resized(shape: Shape, size: int) -> Shape:
    """The same model in another quantization, whose files take `size` bytes."""
    ratio = size / shape.weights if shape.weights else 1.0
    layers = tuple(
        Layer(
            weights=int(layer.weights * ratio),
            experts=int(layer.experts * ratio),
            heads_kv=layer.heads_kv,
            windowed=layer.windowed,
            state=layer.state,
        )
        for layer in shape.layers
    )
    return replace(
        shape, layers=layers, inputs=int(shape.inputs * ratio), outputs=int(shape.outputs * ratio)
    )


def best_of(judged: Sequence[Judged]) -> Judged | None:
    """The largest of 4 to 8 bits that fits the GPUs, else the most that partly does, else RAM.

    None where nothing fits.
    """
    ranks: Mapping[Verdict, int] = {"gpu": 3, "partial": 1, "ram": 1, "no": 0}
    fitting = [row for row in judged if row.fit is not None and ranks[row.fit.verdict]]
    usual = [row for row in fitting if FEWEST_BITS <= bits_of(row.offer.label) <= MOST_BITS]
    if not usual:
        return max(fitting, key=lambda row: (_rank(row, ranks), -row.offer.size), default=None)
    return max(usual, key=lambda row: (_rank(row, ranks), row.offer.size))


def _rank(row: Judged, ranks: Mapping[Verdict, int]) -> int:
    return ranks[row.fit.verdict] if row.fit is not None else 0
