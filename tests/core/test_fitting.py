"""Judgements on recorded machines: none, small, two and large GPUs."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from llmchat.core.judging import Fit, judge
from llmchat.engine.machine import find_devices
from llmchat.engine.placing import MARGIN
from llmchat.engine.protocol import Device
from llmchat.gguf import Shape, read_header, shape_of
from llmchat.values import Wants
from tests.written import SHAPES, write

GIB = 1 << 30
PLAIN = Wants(cache_type_k="f16", cache_type_v="f16")


def cpu(gib: float) -> Device:
    return Device(name="CPU", type="cpu", free=int(gib * GIB), total=int(gib * GIB))


def gpu(gib: float, name: str = "CUDA0") -> Device:
    return Device(name=name, type="gpu", free=int(gib * GIB), total=int(gib * GIB))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shape]:
    folder = tmp_path_factory.mktemp("written")
    names = ("llama-8b", "llama-1b", "qwen3-30b-a3b", "gemma3-4b")
    return {name: shape_of([read_header(write(folder, name))]) for name in names}


def fit(shape: Shape, devices: Sequence[Device], **wants: object) -> Fit:
    fixed = {"cache_type_k": "f16", "cache_type_v": "f16"} | wants
    return judge("m", shape, 0, Wants(**fixed), devices, closely=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("devices", "verdict"),
    [
        ([cpu(64)], "ram"),
        ([cpu(8)], "no"),
        ([gpu(12), cpu(64)], "gpu"),
        ([gpu(8), cpu(64)], "partial"),
        ([gpu(0.6), cpu(64)], "ram"),
        ([gpu(6), gpu(6, "CUDA1"), cpu(64)], "gpu"),
        ([gpu(4), cpu(2)], "no"),
    ],
)
def test_eight_billion_at_eight_bits(shapes, devices, verdict):
    found = fit(shapes["llama-8b"], devices)
    assert found.verdict == verdict
    assert found.total == found.weights + found.kv + found.compute
    assert found.kv == 8192 * 32 * 2 * 8 * 128 * 2
    if verdict != "no":
        for use in found.devices:
            margin = MARGIN if use.type == "gpu" else 0
            assert use.need <= use.free - margin, use
        assert found.n_ctx <= found.largest_ctx <= 131_072
    assert sum(use.need for use in found.devices) == found.total


def test_part_of_the_layers_are_the_last_ones(shapes):
    shape = shapes["llama-8b"]
    found = fit(shape, [gpu(8), cpu(64)])
    on_gpu = found.n_gpu_layers - 1  # the output counts as one
    whole = sum(layer.weights for layer in shape.layers[-on_gpu:]) + shape.outputs
    device = found.devices[0]
    assert device.name == "CUDA0"
    assert whole < device.need < whole * 1.5
    more = fit(shape, [gpu(9), cpu(64)])
    assert more.n_gpu_layers > found.n_gpu_layers


def test_experts_go_to_ram_before_layers_do(shapes):
    found = fit(shapes["qwen3-30b-a3b"], [gpu(16), cpu(64)])
    assert (found.verdict, found.n_gpu_layers) == ("partial", 49)
    assert 0 < found.n_cpu_moe < 48
    assert fit(shapes["qwen3-30b-a3b"], [gpu(40), cpu(64)]).n_cpu_moe == 0


def test_a_gpu_gets_tied_embeddings_a_second_time(shapes):
    shape = shapes["llama-1b"]
    assert fit(shape, [gpu(8), cpu(64)]).weights == shape.weights + shape.inputs
    assert fit(shape, [cpu(64)]).weights == shape.weights


def test_smaller_cache_types_make_room(shapes):
    devices = [gpu(12), cpu(64)]
    plain = fit(shapes["llama-8b"], devices)
    small = fit(shapes["llama-8b"], devices, cache_type_k="q8_0", cache_type_v="q8_0")
    assert small.kv * 2 > plain.kv > small.kv
    assert plain.largest_ctx < small.largest_ctx


def test_the_largest_context_is_the_edge(shapes):
    devices = [gpu(12), cpu(64)]
    edge = fit(shapes["llama-8b"], devices).largest_ctx
    assert fit(shapes["llama-8b"], devices, n_ctx=edge).verdict == "gpu"
    assert fit(shapes["llama-8b"], devices, n_ctx=edge + 256).verdict == "partial"


def test_a_window_costs_less_than_the_whole(shapes):
    window = fit(shapes["gemma3-4b"], [cpu(64)], n_ctx=32_768)
    whole = fit(shapes["gemma3-4b"], [cpu(64)], n_ctx=32_768, swa_full=True)
    assert window.kv < whole.kv / 2


def test_a_projector_takes_room_on_the_gpu(shapes):
    devices = [gpu(10.4), cpu(64)]
    alone = judge("m", shapes["llama-8b"], 0, PLAIN, devices)
    beside = judge("m", shapes["llama-8b"], 2 * GIB, PLAIN, devices)
    assert (alone.verdict, beside.verdict) == ("gpu", "partial")
    assert beside.projector == 2 * GIB
    assert beside.devices[0].need > 2 * GIB


def test_layers_that_the_user_fixed_stay(shapes):
    found = fit(shapes["llama-8b"], [gpu(12), cpu(64)], n_gpu_layers=0)
    assert (found.verdict, found.n_gpu_layers) == ("ram", 0)


def test_shards_count_as_one_model(tmp_path: Path):
    header = read_header(write(tmp_path, "tiny"))
    assert shape_of([header, header]).weights == 2 * shape_of([header]).weights


def test_this_machine_has_ram():
    devices = find_devices(os.environ)
    [ram] = [device for device in devices if device.type == "cpu"]
    assert 0 < ram.free <= ram.total


def test_every_written_shape_is_judged(tmp_path: Path):
    for name in SHAPES:
        shape = shape_of([read_header(write(tmp_path, name))])
        assert fit(shape, [gpu(80), cpu(256)]).verdict == "gpu", name


def test_a_smaller_cache_is_taken_where_only_it_lets_everything_fit(shapes):
    shape = shapes["llama-8b"]
    need = fit(shape, [gpu(24), cpu(64)]).devices[0].need
    tight = [gpu((need + MARGIN - 100_000_000) / GIB), cpu(64)]
    assert fit(shape, tight).verdict == "partial"
    found = judge("m", shape, 0, Wants(), tight)
    assert (found.verdict, found.cache_type_k, found.cache_type_v) == ("gpu", "q8_0", "q8_0")
