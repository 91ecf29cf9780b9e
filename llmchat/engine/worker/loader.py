"""Loading and freeing: a model, its context, its vocabulary, in the right order.

Owns the parameters that llama.cpp gets, progress and cancel, and the reason of a failure as one
sentence out of the log. Refuses deciding where a model lies (`fit.py`).
"""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from llama_cpp import llama_cpp as lib
from msgspec import Struct

from llmchat.engine.worker.capi import Context, Pointer
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.vocab import Vocab
from llmchat.errors import EngineError

TYPES: Final = {
    "f32": lib.GGML_TYPE_F32,
    "f16": lib.GGML_TYPE_F16,
    "bf16": lib.GGML_TYPE_BF16 if hasattr(lib, "GGML_TYPE_BF16") else 30,
    "q8_0": lib.GGML_TYPE_Q8_0,
    "q5_1": lib.GGML_TYPE_Q5_1,
    "q5_0": lib.GGML_TYPE_Q5_0,
    "q4_1": lib.GGML_TYPE_Q4_1,
    "q4_0": lib.GGML_TYPE_Q4_0,
    "iq4_nl": lib.GGML_TYPE_IQ4_NL,
}
FLASH: Final = {"auto": -1, "off": 0, "on": 1}
SPLIT: Final = {"none": 0, "layer": 1, "row": 2}
MAX_LAYERS: Final = 2_147_483_647
_EXPERTS: Final = r"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps"
"""Tensors that hold a layer's experts (LLM_FFN_EXPS_REGEX of common/common.h)."""


class ModelParams(Struct, frozen=True, kw_only=True):
    """Where the weights go. `n_gpu_layers` -1 = all."""

    n_gpu_layers: int = -1
    devices: tuple[int, ...] | None = None
    """Addresses of `ggml_backend_dev_t`; None = all."""
    main_gpu: int = 0
    split_mode: str = "layer"
    tensor_split: tuple[float, ...] = ()
    use_mmap: bool | None = None
    use_mlock: bool = False
    check_tensors: bool = False
    n_cpu_moe: int = 0
    cpu_buffer: int = 0
    """Address of the CPU's `ggml_backend_buffer_type_t`, for experts."""
    no_alloc: bool = False


class ContextParams(Struct, frozen=True, kw_only=True):
    """What a context is made of."""

    n_ctx: int
    """Cells of the whole pool."""
    n_seq_max: int
    n_batch: int = 512
    n_ubatch: int = 512
    n_threads: int = 1
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attn: str = "auto"
    swa_full: bool = False
    embeddings: bool = False
    pooling: int = -1
    """`enum llama_pooling_type`; -1 = the model's own."""


class _NativeModelParams:
    """The C struct, and everything it points at, kept alive as long as this object."""

    def __init__(self, params: ModelParams, progress: Callable[[float], bool] | None) -> None:
        native = lib.llama_model_default_params()
        native.n_gpu_layers = params.n_gpu_layers if params.n_gpu_layers >= 0 else MAX_LAYERS
        native.split_mode = SPLIT[params.split_mode]
        native.main_gpu = params.main_gpu
        native.load_mode = _load_mode(params)
        native.no_alloc = params.no_alloc
        native.check_tensors = params.check_tensors
        self._kept: list[Any] = []
        if progress is not None:
            callback = lib.llama_progress_callback(lambda value, _data: progress(value))
            self._kept.append(callback)
            native.progress_callback = callback
        if params.devices is not None:
            devices = (ctypes.c_void_p * (len(params.devices) + 1))(*params.devices, None)
            self._point(native, "devices", devices)
        if params.tensor_split:
            split = (ctypes.c_float * lib.LLAMA_MAX_DEVICES)(*params.tensor_split)
            self._kept.append(split)
            native.tensor_split = ctypes.cast(split, ctypes.POINTER(ctypes.c_float))
        if params.n_cpu_moe and params.cpu_buffer:
            self._point(native, "tensor_buft_overrides", _overrides(params))
        self.native = native

    def _point(self, native: Pointer, field: str, array: Pointer) -> None:
        self._kept.append(array)
        setattr(native, field, ctypes.addressof(array))


class _Override(ctypes.Structure):
    """`struct llama_model_tensor_buft_override`."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buft", ctypes.c_void_p))


def _overrides(params: ModelParams) -> Pointer:
    patterns = [_EXPERTS.format(layer=layer).encode() for layer in range(params.n_cpu_moe)]
    rows = [_Override(pattern, params.cpu_buffer) for pattern in patterns]
    return (_Override * (len(rows) + 1))(*rows, _Override(None, None))


def _load_mode(params: ModelParams) -> int:
    if params.no_alloc:
        return int(lib.LLAMA_LOAD_MODE_NONE)
    if params.use_mlock:
        unmapped = params.use_mmap is False
        return int(lib.LLAMA_LOAD_MODE_MLOCK if unmapped else lib.LLAMA_LOAD_MODE_MMAP_MLOCK)
    if params.use_mmap is None:
        return int(lib.LLAMA_LOAD_MODE_AUTO)
    return int(lib.LLAMA_LOAD_MODE_MMAP if params.use_mmap else lib.LLAMA_LOAD_MODE_NONE)


def open_model(
    paths: Sequence[str],
    params: ModelParams,
    log: LogRing,
    progress: Callable[[float], bool] | None = None,
) -> Pointer:
    """Load weights from a file, or from all shards in order.

    `progress` gets 0 to 1 and returns False to give up.

    Raises:
        EngineError: with llama.cpp's reason; `engine.load_stopped` when `progress` gave up.
    """
    if not Path(paths[0]).is_file():
        raise EngineError("engine.model_unreadable", reason=f"{paths[0]} is not there")
    stopped = False

    def report(value: float) -> bool:
        nonlocal stopped
        stopped = stopped or (progress is not None and not progress(value))
        return not stopped

    native = _NativeModelParams(params, report)
    log.clear()
    if len(paths) > 1:
        names = (ctypes.c_char_p * len(paths))(*(path.encode() for path in paths))
        model = lib.llama_model_load_from_splits(names, len(paths), native.native)
    else:
        model = lib.llama_model_load_from_file(paths[0].encode(), native.native)
    if stopped:
        if model:
            lib.llama_model_free(model)
        raise EngineError("engine.load_stopped", recoverable=True)
    if not model:
        raise EngineError("engine.model_unreadable", reason=log.reason() or "no reason given")
    return model


def native_context(params: ContextParams) -> Pointer:
    """The C struct of a context."""
    native = lib.llama_context_default_params()
    native.n_ctx = params.n_ctx
    native.n_batch = params.n_batch
    native.n_ubatch = min(params.n_ubatch, params.n_batch)
    native.n_seq_max = params.n_seq_max
    # One sampled row a sequence: without this the logits of a whole batch are reserved (96 MiB).
    native.n_outputs_max = 0 if params.embeddings else params.n_seq_max
    native.n_threads = native.n_threads_batch = params.n_threads
    native.type_k, native.type_v = TYPES[params.cache_type_k], TYPES[params.cache_type_v]
    native.flash_attn_type = FLASH[params.flash_attn]
    native.swa_full = params.swa_full
    native.kv_unified = True
    native.embeddings = params.embeddings
    native.pooling_type = params.pooling
    native.no_perf = True
    return native


def open_context(model: Pointer, params: ContextParams, log: LogRing) -> Pointer:
    """A context on a model.

    Raises:
        EngineError: with llama.cpp's reason (no memory, a cache type the model cannot have).
    """
    log.clear()
    pointer = lib.llama_init_from_model(model, native_context(params))
    if not pointer:
        raise EngineError("engine.context_failed", reason=log.reason() or "no reason given")
    return pointer


class Loaded:
    """A model that is ready to compute."""

    def __init__(self, model: Pointer, context: Context, vocab: Vocab) -> None:
        self.model = model
        self.context = context
        self.vocab = vocab
        self.cuts = True
        """Whether its memory can take back a sequence's last tokens; known after `warm_up`."""

    def warm_up(self) -> None:
        """Compute two tokens, so that the first reply does not wait for pages and kernels."""
        batch = self.context.batch
        batch.clear()
        batch.add([max(0, self.vocab.bos)] * 2, 0, 0, output=True)
        self.context.decode()
        self.context.synchronize()
        # Not by the architecture's name: llama.cpp asks its memories in the same way
        # (common_context_can_seq_rm of common/common.cpp).
        self.cuts = self.context.seq_rm(0, 1, -1)
        self.context.clear_memory()
        batch.clear()

    def close(self) -> None:
        """Free: context first, then the model."""
        self.context.close()
        if self.model:
            lib.llama_model_free(self.model)
            self.model = None
