"""What a model's best place lacks, on recorded machines."""

import pytest

from llmchat.engine.placing import MARGIN, Model, Sizes, Try, place
from llmchat.engine.protocol import Device
from llmchat.engine.worker.shortage import shortage
from llmchat.values import Wants

GIB = 1 << 30
MODEL = Model(n_layers=32, n_ctx_train=8192)


def measure(choice: Try) -> dict[str, Sizes]:
    """A model of 16 GiB and 1 GiB of context for 8192 tokens, split by layers."""
    share = choice.n_gpu_layers / MODEL.n_layers
    context = GIB * choice.n_ctx * choice.pool // 8192
    return {
        "CUDA0": Sizes(int(16 * GIB * share), int(context * share), 0),
        "CPU": Sizes(int(16 * GIB * (1 - share)), int(context * (1 - share)), 0),
    }


def lacks(free: int, total: int = 24, ram: float = 60, wants: Wants | None = None):
    wants = wants or Wants()
    devices = [
        Device(name="CUDA0", type="gpu", free=free * GIB, total=total * GIB),
        Device(name="CPU", type="cpu", free=int(ram * GIB), total=64 * GIB),
    ]
    placed = place(devices, wants, MODEL, measure)
    n_ctx = wants.n_ctx or 8192
    return shortage(devices, wants, MODEL, placed, n_ctx=n_ctx, measure=measure)


def test_nothing_is_missing_where_everything_fits():
    assert lacks(24) == {}


def test_what_another_program_holds_is_missing():
    assert lacks(10) == {"CUDA0": 17 * GIB + MARGIN - 10 * GIB}


def test_what_the_device_never_had_is_not():
    assert lacks(8, total=8) == {}
    assert lacks(5, total=8) == {"CUDA0": 3 * GIB}


def test_who_wants_few_layers_lacks_nothing():
    assert lacks(10, wants=Wants(n_gpu_layers=8)) == {}


@pytest.mark.parametrize(("ram", "missing"), [(2.0, {}), (0.25, {"CPU": 3 * GIB // 4})])
def test_ram_is_missing_for_what_is_allocated_not_for_what_is_mapped(ram, missing):
    assert lacks(1, total=1, ram=ram, wants=Wants(n_gpu_layers=0)) == missing
