"""Where a model lies on this machine: what `engine.placing` finds with llama.cpp's own sizes.

Owns `decide`, which measures, and the explanation of a placement in a sentence.
"""

from collections.abc import Callable, Sequence

from llama_cpp import llama_cpp as lib
from msgspec import Struct

from llmchat.engine.placing import (
    GPU,
    Impossible,
    Model,
    Placed,
    Sizes,
    Try,
    batches,
    contexts,
    place,
)
from llmchat.engine.protocol import Device, Placement
from llmchat.engine.worker import devices as machine
from llmchat.engine.worker.adapter_sizes import lora_bytes, vector_bytes, with_adapters
from llmchat.engine.worker.adapters import lora_headers
from llmchat.engine.worker.capi import Pointer
from llmchat.engine.worker.cores import physical_cores
from llmchat.engine.worker.loader import ContextParams, ModelParams
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.measure import Meter
from llmchat.engine.worker.memory import Kind
from llmchat.engine.worker.shortage import shortage
from llmchat.errors import EngineError
from llmchat.text import say
from llmchat.values import Wants

Shape = Callable[[Pointer, ContextParams], ContextParams]
"""What a model's context is made of, from what placement gave it: measured, then opened."""


def as_placed(_model: Pointer, params: ContextParams) -> ContextParams:
    """The shape of a model that writes."""
    return params


class Decision(Struct, frozen=True, kw_only=True):
    """Everything that the loader needs, and what is told about it."""

    devices: tuple[Device, ...]
    needs: dict[str, int]
    short: dict[str, int]
    """What its best place lacks (shortage.py)."""
    refusal: EngineError | None
    """Why it cannot be loaded as things are; another plan may do better."""
    placement: Placement
    memory: dict[str, int]
    model: ModelParams
    context: ContextParams
    n_ctx: int


def explain(devices: Sequence[Device], model: Model, placed: Placed) -> str:
    """The placement in one sentence, e.g. `29/33 layers on CUDA0 (7.2 of 7.9 GiB free)`."""
    choice = placed.choice
    free = {device.name: device.free for device in devices if device.type in GPU}
    used = [name for name in free if placed.sizes.get(name, Sizes()).total]
    cache = ""
    if choice.cache_type != "f16":
        cache = say("engine.placed_cache", kind=choice.cache_type)
    if not choice.n_gpu_layers or not used:
        cpu = sum(size.total for size in placed.sizes.values())
        return say("engine.placed_cpu", layers=model.n_layers, need=_gib(cpu)) + cache
    where = ", ".join(
        say("engine.placed_device", name=name, need=_gib(placed.sizes[name].total),
            free=_gib(free[name]))
        for name in used
    )  # fmt: skip
    words = say("engine.placed_gpu", layers=choice.n_gpu_layers, of=model.n_layers, where=where)
    if choice.n_cpu_moe:
        words += say("engine.placed_experts", layers=choice.n_cpu_moe)
    words += cache
    return words if placed.fits else words + say("engine.placed_tight")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def memory_kind(model: Pointer, swa_full: bool, *, cuts: bool = True) -> Kind:
    """What a prefix of this model can be reused for; `cuts` is what its memory says itself."""
    recurrent = bool(lib.llama_model_is_recurrent(model))
    hybrid = bool(lib.llama_model_is_hybrid(model))
    return Kind(
        n_swa=int(lib.llama_model_n_swa(model)),
        swa_full=swa_full,
        whole_only=recurrent or hybrid or not cuts,
        cells=hybrid or not recurrent,
    )


def decide(paths: Sequence[str], wants: Wants, log: LogRing, shape: Shape = as_placed) -> Decision:
    """Place a model on this machine.

    Raises:
        EngineError: it cannot be read, an adapter is not for it, or a device is not there.
    """
    found = machine.find_devices()
    chosen = _chosen(found, wants)
    listed = tuple(item.device for item in found)
    usable = [item.device for item in chosen] + [
        item.device for item in found if item.device.type not in GPU
    ]
    with Meter(paths, log) as meter:
        model = _model(meter.model, wants)
        beside = lora_bytes(lora_headers(meter.model, wants.lora or ()), model)
        n_embd = int(lib.llama_model_n_embd(meter.model))
        beside += vector_bytes(len(set(wants.control_vectors or ())), n_embd, model)
        gpus = [item.device.name for item in chosen]

        def context(choice: Try) -> ContextParams:
            return shape(meter.model, context_params(choice, wants, model))

        def measure(choice: Try) -> dict[str, Sizes]:
            weights = model_params(choice, wants, chosen, found)
            try:
                sizes = meter.measure(weights, context(choice))
            except EngineError as error:
                if choice.cache_type == "f16":
                    raise
                raise Impossible from error
            return with_adapters(sizes, beside, choice, model, gpus) if beside else sizes

        placed = place(usable, wants, model, measure)
        n_ctx = contexts(wants, model)[0]
        short = shortage(usable, wants, model, placed, n_ctx=n_ctx, measure=measure)
        choice = placed.choice
        params = context(choice)
    return Decision(
        devices=listed,
        needs={name: size.total for name, size in placed.sizes.items()},
        short=short,
        refusal=_impossible(usable, placed),
        placement=Placement(
            n_gpu_layers=choice.n_gpu_layers,
            n_layers=model.n_layers,
            memory={name: size.total for name, size in placed.sizes.items()},
            explanation=explain(usable, model, placed),
        ),
        memory={
            kind: sum(getattr(size, kind) for size in placed.sizes.values())
            for kind in ("model", "context", "compute", *(["adapters"] if beside else []))
        },
        model=model_params(choice, wants, chosen, found),
        context=params,
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
        check_tensors=bool(wants.check_tensors),
        n_cpu_moe=choice.n_cpu_moe,
        cpu_buffer=machine.cpu_buffer() if found else 0,
    )


def context_params(choice: Try, wants: Wants, model: Model) -> ContextParams:
    """What the context gets for a try."""
    sizes = batches(choice, wants, model)
    return ContextParams(
        n_ctx=choice.n_ctx * choice.pool,
        n_seq_max=sizes.n_seq_max,
        n_batch=sizes.n_batch,
        n_ubatch=sizes.n_ubatch,
        n_threads=max(1, min(wants.n_threads or physical_cores(), 512)),
        cache_type_k=wants.cache_type_k or choice.cache_type,
        cache_type_v=wants.cache_type_v or choice.cache_type,
        flash_attn=wants.flash_attn or "auto",
        swa_full=bool(wants.swa_full),
    )


def _impossible(devices: Sequence[Device], placed: Placed) -> EngineError | None:
    """A context that RAM cannot hold would be killed by the kernel, without a word.

    The refusal says what it needs and what is free.
    """
    for device in devices:
        size = placed.sizes.get(device.name, Sizes())
        if device.type == "cpu" and size.allocated > device.free > 0:
            return EngineError(
                "engine.does_not_fit", need=_gib(size.allocated), free=_gib(device.free),
                n_ctx=placed.choice.n_ctx,
            )  # fmt: skip
    return None
