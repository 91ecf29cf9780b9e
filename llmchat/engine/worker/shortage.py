"""What a model's best place lacks: bytes that would have to become free, by device. Pure.

A plan carries it, so that whoever waits for the load can ask idle workers to leave. What a device
can never hold is not missing: nobody who leaves would give it.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from llmchat.engine.placing import GPU, MARGIN, Measure, Model, Placed, Sizes, Try
from llmchat.engine.protocol import Device
from llmchat.values import Wants


def shortage(
    devices: Sequence[Device],
    wants: Wants,
    model: Model,
    placed: Placed,
    *,
    n_ctx: int,
    measure: Measure,
) -> dict[str, int]:
    """Bytes that the best place lacks; empty when `placed` is that place, and fits.

    `n_ctx`: the context of one sequence that is wanted, or the default one.
    """
    best = _best(devices, wants, model, placed, n_ctx)
    if placed.fits and replace(placed.choice, pool=1, cache_type="f16") == best:
        return {}
    sizes = measure(best)
    lacking = {device.name: _lacks(device, sizes.get(device.name, Sizes())) for device in devices}
    return {name: size for name, size in lacking.items() if size > 0}


def _best(devices: Sequence[Device], wants: Wants, model: Model, placed: Placed, n_ctx: int) -> Try:
    """Everything on GPUs, where there are some and the user fixed nothing else."""
    fixed = isinstance(wants.n_gpu_layers, int)
    gpus = any(device.type in GPU for device in devices)
    layers = model.n_layers if gpus and not fixed else placed.choice.n_gpu_layers
    return Try(n_gpu_layers=layers, n_cpu_moe=wants.n_cpu_moe or 0, n_ctx=n_ctx, pool=1)


def _lacks(device: Device, size: Sizes) -> int:
    if device.type in GPU:
        return min(size.total, max(0, device.total - MARGIN)) - (device.free - MARGIN)
    if device.type != "cpu":
        return 0
    return min(size.allocated, device.total) - device.free
