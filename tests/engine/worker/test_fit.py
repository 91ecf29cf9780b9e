"""Placement on recorded machines: none, 8, 24, 2 x 24, 80 GiB; sizes as an 8B model has them."""

import pytest
from msgspec.structs import replace

from llmchat.engine.placing import (
    DEFAULT_CTX,
    MARGIN,
    Impossible,
    Measure,
    Model,
    Sizes,
    Try,
    place,
)
from llmchat.engine.protocol import Device
from llmchat.engine.worker.adapter_sizes import lora_bytes, vector_bytes, with_adapters
from llmchat.engine.worker.fit import explain
from llmchat.gguf import Header, Tensor
from llmchat.gguf.types import TensorType
from llmchat.values import Wants

GIB = 1 << 30
CPU = Device(name="CPU", type="cpu", free=60 * GIB, total=64 * GIB)


def gpu(gib: float, name: str = "CUDA0") -> Device:
    return Device(name=name, type="gpu", free=int(gib * GIB), total=int(gib * GIB))


def sized(
    gib: float, devices: list[Device], layers: int = 33, expert_share: float = 0.0
) -> Measure:
    """A model of `gib` GiB in equal layers, 128 KiB of KV a token, spread over the GPUs evenly."""

    def measure(choice: Try) -> dict[str, Sizes]:
        share = choice.n_gpu_layers / layers
        experts = gib * expert_share * (choice.n_cpu_moe / (layers - 1))
        on_gpu = (gib * share - (experts if share else 0)) * GIB
        kv = 128 * 1024 * choice.n_ctx * choice.pool
        kv = kv * 34 // 64 if choice.cache_type == "q8_0" else kv
        gpus = [device for device in devices if device.type == "gpu"]
        found = {"CPU": Sizes(int(gib * GIB - on_gpu), int(kv * (1 - share)), GIB // 8)}
        for device in gpus:
            part = Sizes(int(on_gpu / len(gpus)), int(kv * share / len(gpus)), GIB // 4)
            found[device.name] = part if share else Sizes()
        return found

    return measure


LLAMA_8B = Model(n_layers=33, n_ctx_train=131_072)
MACHINES = {
    "none": [CPU],
    "8": [gpu(7.6), CPU],
    "24": [gpu(23.5), CPU],
    "2x24": [gpu(23.5), gpu(23.5, "CUDA1"), CPU],
    "80": [gpu(79.0), CPU],
}


@pytest.mark.parametrize(
    ("machine", "gib", "layers"),
    [
        ("none", 4.7, 0),
        ("8", 4.7, 33),
        ("24", 4.7, 33),
        ("8", 16.0, range(8, 18)),
        ("24", 40.0, range(12, 20)),
        ("2x24", 40.0, 33),
        ("80", 40.0, 33),
    ],
)
def test_as_many_layers_on_the_gpu_as_fit(machine, gib, layers):
    devices = MACHINES[machine]
    placed = place(devices, Wants(), LLAMA_8B, sized(gib, devices))
    assert placed.fits
    found = placed.choice.n_gpu_layers
    assert found in layers if isinstance(layers, range) else found == layers
    assert placed.choice.n_ctx == DEFAULT_CTX
    for device in devices:
        if device.type == "gpu":
            assert placed.sizes[device.name].total <= device.free - MARGIN


def test_the_pool_grows_only_where_there_is_room():
    tight, wide = MACHINES["8"], MACHINES["80"]
    assert place(tight, Wants(), LLAMA_8B, sized(4.7, tight)).choice.pool in (1, 2)
    assert place(wide, Wants(), LLAMA_8B, sized(4.7, wide)).choice.pool == 4


def test_what_the_user_fixed_stays_fixed():
    devices = MACHINES["8"]
    wants = Wants(n_gpu_layers=12, n_ctx=16_384)
    placed = place(devices, wants, LLAMA_8B, sized(4.7, devices))
    assert (placed.choice.n_gpu_layers, placed.choice.n_ctx) == (12, 16_384)
    everything = place(devices, Wants(n_gpu_layers="all"), LLAMA_8B, sized(40, devices))
    assert everything.choice.n_gpu_layers == 33
    assert not everything.fits
    assert "may not fit" in explain(devices, LLAMA_8B, everything)
    none = place(devices, Wants(n_gpu_layers=0), LLAMA_8B, sized(4.7, devices))
    assert none.choice.n_gpu_layers == 0


def test_experts_go_to_the_cpu_before_layers_do():
    devices = MACHINES["24"]
    model = Model(n_layers=33, n_ctx_train=32_768, n_experts=128)
    placed = place(devices, Wants(), model, sized(40, devices, expert_share=0.9))
    assert placed.fits
    assert placed.choice.n_gpu_layers == 33
    assert 0 < placed.choice.n_cpu_moe < 33
    assert "experts" in explain(devices, model, placed)


def test_a_small_machine_gets_a_smaller_context_than_the_default():
    devices = [Device(name="CPU", type="cpu", free=GIB // 2, total=GIB)]
    placed = place(devices, Wants(), LLAMA_8B, sized(0.5, devices))
    assert placed.fits
    assert placed.choice.n_ctx == 4096
    # With a little more, half the cache is given up before half the context.
    devices = [Device(name="CPU", type="cpu", free=GIB * 3 // 4, total=GIB)]
    halved = place(devices, Wants(), LLAMA_8B, sized(0.5, devices)).choice
    assert (halved.n_ctx, halved.cache_type) == (8192, "q8_0")


def test_the_cache_is_halved_only_where_that_lets_everything_fit():
    devices = [gpu(6.2), CPU]
    placed = place(devices, Wants(), LLAMA_8B, sized(4.7, devices))
    assert (placed.choice.n_gpu_layers, placed.choice.cache_type) == (33, "q8_0")
    assert explain(devices, LLAMA_8B, placed).endswith("; KV cache in q8_0")
    for wants in (Wants(cache_type_k="f16"), Wants(flash_attn="off")):
        kept = place(devices, wants, LLAMA_8B, sized(4.7, devices)).choice
        assert (kept.cache_type, kept.n_gpu_layers < 33) == ("f16", True)
    small = [gpu(4.0), CPU]  # a layer more is not worth it
    assert place(small, Wants(), LLAMA_8B, sized(4.7, small)).choice.cache_type == "f16"


def test_a_cache_that_llama_cpp_refuses_is_not_chosen():
    devices = [gpu(6.2), CPU]
    measured = sized(4.7, devices)

    def measure(choice: Try) -> dict[str, Sizes]:
        if choice.cache_type != "f16":
            raise Impossible
        return measured(choice)

    placed = place(devices, Wants(), LLAMA_8B, measure)
    assert placed.fits
    assert placed.choice.cache_type == "f16"


def test_metal_shares_the_machines_memory():
    """A Mac lists its GPU with what macOS lets it have, and the CPU with all of the RAM."""
    devices = [
        Device(name="MTL0", type="gpu", free=int(10.6 * GIB), total=int(10.6 * GIB)),
        Device(name="CPU", type="cpu", free=9 * GIB, total=16 * GIB),
    ]
    placed = place(devices, Wants(), LLAMA_8B, sized(4.7, devices))
    assert (placed.choice.n_gpu_layers, placed.choice.n_ctx) == (33, DEFAULT_CTX)
    assert explain(devices, LLAMA_8B, placed).startswith("33/33 layers on MTL0 (")
    large = place(devices, Wants(), LLAMA_8B, sized(16, devices))
    assert 0 < large.choice.n_gpu_layers < 33


def test_the_context_is_never_more_than_the_model_was_trained_for_unless_asked():
    devices = MACHINES["none"]
    small = Model(n_layers=33, n_ctx_train=2048)
    assert place(devices, Wants(), small, sized(1, devices)).choice.n_ctx == 2048
    asked = place(devices, Wants(n_ctx=4096), small, sized(1, devices))
    assert asked.choice.n_ctx == 4096


def test_the_explanation_names_devices_and_sizes():
    devices = MACHINES["8"]
    placed = place(devices, Wants(), LLAMA_8B, sized(4.7, devices))
    words = explain(devices, LLAMA_8B, placed)
    assert words.startswith("33/33 layers on CUDA0 (")
    assert "of 7.6 GiB free" in words


def lora(**tensors: int) -> Header:
    """An adapter's header: bytes by tensor name, dots as `__`."""
    f32 = TensorType("F32", 1, 4)
    rows = tuple(
        Tensor(name.replace("__", "."), (size // 4,), f32, 0, size)
        for name, size in tensors.items()
    )
    return Header(3, {}, rows, 0, 0)


def test_adapters_lie_beside_the_weights_that_they_change():
    header = lora(
        token_embd__weight__lora_a=4, output__weight__lora_a=8, blk__0__attn_q__weight__lora_a=16,
        blk__31__attn_q__weight__lora_a=32, blk__0__ffn_up_exps__weight__lora_a=64,
    )  # fmt: skip
    model = Model(n_layers=33, n_ctx_train=8192, n_experts=4)
    loras = lora_bytes([header, header], model)
    choice = Try(n_gpu_layers=33, n_cpu_moe=0, n_ctx=8192, pool=1)

    def lie(gpus: tuple[str, ...] = ("CUDA0",), **change: int) -> dict[str, int]:
        sizes = {"CPU": Sizes(1)} | {name: Sizes(2 + number) for number, name in enumerate(gpus)}
        found = with_adapters(sizes, loras, replace(choice, **change), model, gpus)
        assert {name: size.model for name, size in found.items()} == {
            name: size.model for name, size in sizes.items()
        }
        return {name: size.adapters for name, size in found.items()}

    assert lie() == {"CPU": 8, "CUDA0": 240}
    assert lie(n_cpu_moe=1) == {"CPU": 136, "CUDA0": 112}
    assert lie(n_gpu_layers=1) == {"CPU": 232, "CUDA0": 16}
    assert lie(n_gpu_layers=2) == {"CPU": 168, "CUDA0": 80}
    assert lie(n_gpu_layers=0) == {"CPU": 248, "CUDA0": 0}
    assert lie((), n_gpu_layers=0) == {"CPU": 248}
    assert lie(("CUDA0", "CUDA1")) == {"CPU": 8, "CUDA0": 96, "CUDA1": 144}


def test_a_large_adapter_takes_layers_off_the_gpu():
    devices = MACHINES["8"]
    plain = sized(6.0, devices)
    loras = lora_bytes([lora(blk__0__attn_q__weight__lora_a=GIB)], LLAMA_8B)

    def measure(choice: Try) -> dict[str, Sizes]:
        return with_adapters(plain(choice), loras, choice, LLAMA_8B, ["CUDA0"])

    without = place(devices, Wants(n_ctx=2048), LLAMA_8B, plain)
    placed = place(devices, Wants(n_ctx=2048), LLAMA_8B, measure)
    assert without.choice.n_gpu_layers == 33
    assert placed.choice.n_gpu_layers == 32  # its one layer computes where it lies
    assert placed.sizes["CPU"].allocated > GIB


def test_control_vectors_are_a_row_beside_every_layer_but_the_first():
    row = 4 * 4096
    choice = Try(n_gpu_layers=33, n_cpu_moe=0, n_ctx=8192, pool=1)

    def lie(files: int, n_gpu_layers: int, gpus: tuple[str, ...] = ("CUDA0",)) -> dict[str, int]:
        sizes = {"CPU": Sizes(1)} | {name: Sizes(1) for name in gpus}
        vectors = vector_bytes(files, 4096, LLAMA_8B)
        at = replace(choice, n_gpu_layers=n_gpu_layers)
        found = with_adapters(sizes, vectors, at, LLAMA_8B, gpus)
        return {name: size.adapters for name, size in found.items()}

    # 31 rows where their layers are, whatever the number of files, and 31 in RAM for each file.
    assert lie(1, 33) == {"CPU": 31 * row, "CUDA0": 31 * row}
    assert lie(3, 33) == {"CPU": 93 * row, "CUDA0": 31 * row}
    assert lie(1, 11) == {"CPU": 52 * row, "CUDA0": 10 * row}
    assert lie(1, 32) == lie(1, 33), "the first layer has none"
    assert lie(1, 1) == {"CPU": 62 * row, "CUDA0": 0}
    assert lie(1, 0, ()) == {"CPU": 62 * row}
    assert lie(1, 33, ("CUDA0", "CUDA1"))["CUDA1"] == 31 * row / 2
    assert not vector_bytes(0, 4096, LLAMA_8B)


def test_control_vectors_count_against_a_card_that_is_just_full():
    devices = MACHINES["8"]
    plain = sized(4.7, devices)
    wants = Wants(n_ctx=2048, cache_type_k="f16")
    whole = plain(Try(n_gpu_layers=33, n_cpu_moe=0, n_ctx=2048, pool=1))["CUDA0"].total
    rows = 4 * 4096 * 31
    vectors = vector_bytes(1, 4096, LLAMA_8B)

    def measure(choice: Try) -> dict[str, Sizes]:
        return with_adapters(plain(choice), vectors, choice, LLAMA_8B, ["CUDA0"])

    def layers(free: int) -> int:
        card = replace(devices[0], free=free + MARGIN)
        return place([card, CPU], wants, LLAMA_8B, measure).choice.n_gpu_layers

    assert layers(whole + rows) == 33
    assert layers(whole + rows - 1) < 33
