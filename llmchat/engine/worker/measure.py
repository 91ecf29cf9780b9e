"""Measuring a placement: llama.cpp lays everything out with `no_alloc`, and is asked for sizes.

Owns the weightless model that is opened for it. 120 ms to open one, 5 ms a context; opened again
only when the model's own parameters change.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Final

from llama_cpp import llama_cpp as lib
from msgspec.structs import replace

from llmchat.engine.placing import Sizes
from llmchat.engine.worker import sizes
from llmchat.engine.worker.capi import Pointer, model_text
from llmchat.engine.worker.loader import ContextParams, ModelParams, open_context, open_model
from llmchat.engine.worker.log import LogRing

_WEIGHTLESS: Final = ModelParams(n_gpu_layers=0, no_alloc=True)


class Meter:
    """Opens a model without its weights and measures tries. A context manager."""

    def __init__(self, paths: Sequence[str], log: LogRing) -> None:
        """Open it.

        Raises:
            EngineError: it cannot be loaded, with llama.cpp's reason.
        """
        self._paths, self._log = paths, log
        self._params = _WEIGHTLESS
        self.model: Pointer = open_model(paths, self._params, log)

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self.model:
            lib.llama_model_free(self.model)
            self.model = None

    def measure(self, model: ModelParams, context: ContextParams) -> dict[str, Sizes]:
        """Bytes per device: exact where llama.cpp tells, else by the formula of `sizes`.

        Raises:
            EngineError: llama.cpp refuses the combination, with its reason.
        """
        self._reopen(
            replace(model, no_alloc=True, use_mlock=False, use_mmap=None, check_tensors=False)
        )
        pointer = open_context(self.model, context, self._log)
        try:
            found = sizes.breakdown(pointer)
        finally:
            lib.llama_free(pointer)
        weights = int(lib.llama_model_size(self.model))
        if found is not None and sizes.plausible(found, weights):
            return found
        return self._estimate(model, context, weights)

    def _reopen(self, params: ModelParams) -> None:
        if params == self._params:
            return
        lib.llama_model_free(self.model)
        self.model = None
        self.model = open_model(self._paths, params, self._log)
        self._params = params

    def _estimate(
        self, model: ModelParams, context: ContextParams, weights: int
    ) -> dict[str, Sizes]:
        """Everything as if on one device: the first GPU's share by layers, the rest on the CPU."""
        pointer = self.model
        layers = max(1, int(lib.llama_model_n_layer(pointer)))
        heads = max(1, int(lib.llama_model_n_head(pointer)))
        width = int(lib.llama_model_n_embd(pointer)) // heads
        kv_width = width * max(1, int(lib.llama_model_n_head_kv(pointer)))
        cache = sizes.kv_bytes(
            context.n_ctx, layers, kv_width, kv_width, context.cache_type_k, context.cache_type_v
        )
        n_vocab = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(pointer)))
        compute = sizes.compute_bytes(
            context.n_ubatch, context.n_seq_max, n_vocab, int(lib.llama_model_n_embd(pointer))
        )
        share = min(1.0, max(0, model.n_gpu_layers) / (layers + 1))
        gpu = sizes.first_gpu(model.devices)
        if gpu is None or not share:
            return {"CPU": Sizes(weights, cache, compute)}
        return {
            gpu: Sizes(int(weights * share), int(cache * share), compute),
            "CPU": Sizes(int(weights * (1 - share)), int(cache * (1 - share)), compute),
        }

    @staticmethod
    def experts(model: Pointer) -> int:
        """Experts of each layer; 0 for a dense model."""
        name = model_text(model, "general.architecture") or ""
        text = model_text(model, f"{name}.expert_count") or "0"
        return int(text) if text.isdigit() else 0
