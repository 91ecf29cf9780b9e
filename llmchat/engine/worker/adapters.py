"""LoRA adapters and control vectors: what is loaded beside the weights, and what a request uses.

Owns that a file is checked before llama.cpp sees it (a NULL adapter ends the process), which scales
hold for the context, and the name of a mixture. One mixture holds for a whole decode, so replies
with different ones never share a batch; and the KV cells that one computed are of no use to
another, so a mixture's name takes the place of a prompt's first token in the prefix memory.
Refuses settings and scheduling.
"""

import ctypes
import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib
from msgspec import Struct

from llmchat.engine.protocol import Scaled
from llmchat.engine.worker.capi import Context, Pointer, model_text
from llmchat.engine.worker.log import LogRing
from llmchat.errors import EngineError, GenerationFailed, ModelFileError
from llmchat.gguf import Header, read_header
from llmchat.text.cleaning import clean_line

MOST_SCALE: Final = 1000.0
_VECTOR: Final = "direction."
_F32: Final = "F32"
_ALPHA: Final = "adapter.lora.alpha"
_FLOAT32: Final = "float32"
_NOT_MULTIPLIED: Final = frozenset({"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"})
"""Tensor types without a `vec_dot` in ggml's CPU backend (ggml/src/ggml-cpu/ggml-cpu.c)."""


class Mixture(Struct, frozen=True):
    """Which adapters and control vectors at which scales; files by path, sorted, none at 0."""

    loras: tuple[tuple[str, float], ...] = ()
    vectors: tuple[tuple[str, float], ...] = ()
    name: int = 0
    """Below -1: no token of any vocabulary. 0 = the model alone."""

    def named(self, prompt: list[int]) -> list[int]:
        """The prompt as the prefix memory knows it: nothing computed otherwise begins alike."""
        return [self.name, *prompt[1:]] if self.name and prompt else prompt


NOTHING: Final = Mixture()


class Adapters:
    """Everything of a worker that is loaded beside its weights, and is freed with them."""

    def __init__(self) -> None:
        self._loras: dict[str, Pointer] = {}
        self._vectors: dict[str, npt.NDArray[np.float32]] = {}
        self._stamps: dict[str, str] = {}
        self._applied = NOTHING
        self.loaded = False
        """There is more than one mixture."""

    def load(
        self, model: Pointer, loras: Iterable[str], vectors: Iterable[str], log: LogRing
    ) -> None:
        """Read the files. Before a context is made: the graph's size counts the adapters.

        Raises:
            EngineError: a file that is no adapter, or one of another model.
        """
        loras = tuple(loras)
        lora_headers(model, loras)
        for path in loras:
            log.clear()
            pointer = lib.llama_adapter_lora_init(model, path.encode())
            if not pointer:
                reason = log.reason() or "no reason given"
                raise EngineError("engine.bad_adapter", name=Path(path).name, reason=reason)
            self._loras[path] = pointer
            self._stamps[path] = _stamp(path)
        width, layers = int(lib.llama_model_n_embd(model)), int(lib.llama_model_n_layer(model))
        for path in vectors:
            self._vectors[path] = _read_vector(_header(path), path, width, layers)
            self._stamps[path] = _stamp(path)
        self.loaded = bool(self._stamps)

    def mixture(self, loras: Sequence[Scaled], vectors: Sequence[Scaled]) -> Mixture:
        """What a request asks for.

        Raises:
            GenerationFailed: a file that was not loaded, or a scale that is no number.
        """
        rows = _scales(loras, self._loras), _scales(vectors, self._vectors)
        if not any(rows):
            return NOTHING
        words = repr([(self._stamps[path], scale) for row in rows for path, scale in row])
        digest = hashlib.sha256(f"{len(rows[0])} {words}".encode()).digest()
        return Mixture(*rows, -2 - int.from_bytes(digest[:4]) % (2**31 - 2))

    def apply(self, context: Context, mixture: Mixture) -> None:
        """Let the next decodes use `mixture`. Costs nothing when it is what they use already."""
        if mixture == self._applied:
            return
        if mixture.loras != self._applied.loras:
            pointers: Any = (lib.llama_adapter_lora_p_ctypes * len(mixture.loras))(
                *(self._loras[path] for path, _ in mixture.loras)
            )
            scales = (ctypes.c_float * len(mixture.loras))(*(scale for _, scale in mixture.loras))
            lib.llama_set_adapters_lora(context.pointer, pointers, len(mixture.loras), scales)
        if mixture.vectors != self._applied.vectors:
            self._apply_vectors(context, mixture)
        self._applied = mixture

    def _apply_vectors(self, context: Context, mixture: Mixture) -> None:
        if not mixture.vectors:
            lib.llama_set_adapter_cvec(context.pointer, None, 0, 0, 0, 0)
            return
        total = np.zeros_like(next(iter(self._vectors.values())))
        for path, scale in mixture.vectors:
            total += np.float32(scale) * self._vectors[path]
        layers, width = total.shape
        data = total.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        # llama.cpp counts layers from 1 here: the first one's input is never changed.
        lib.llama_set_adapter_cvec(context.pointer, data, total.size, width, 1, layers)


def _scales(asked: Sequence[Scaled], loaded: Iterable[str]) -> tuple[tuple[str, float], ...]:
    known = set(loaded)
    found: dict[str, float] = {}
    for each in asked:
        if each.path not in known:
            raise GenerationFailed("engine.adapter_not_loaded", name=Path(each.path).name)
        if not abs(each.scale) <= MOST_SCALE:  # NaN, too, is not
            raise GenerationFailed("engine.bad_sampling", field="scale", value=each.scale)
        found[each.path] = found.get(each.path, 0.0) + each.scale
    return tuple(sorted((path, scale) for path, scale in found.items() if scale))


def lora_headers(model: Pointer, paths: Iterable[str]) -> list[Header]:
    """The headers of LoRA files that llama.cpp may be given for this model.

    Raises:
        EngineError: a file that is no adapter, is one of another model, or would end llama.cpp.
    """
    architecture = model_text(model, "general.architecture") or ""
    headers = [(_header(path), path) for path in paths]
    for header, path in headers:
        _check_lora(header, path, architecture)
    return [header for header, _ in headers]


def _header(path: str) -> Header:
    try:
        return read_header(path)
    except ModelFileError as error:
        name, reason = Path(path).name, error.sentence.rstrip(".")
        raise EngineError("engine.bad_adapter", name=name, reason=reason) from error


def _stamp(path: str) -> str:
    """A file's identity: a changed one has computed other cells."""
    found = Path(path).stat()
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def _check_lora(header: Header, path: str, architecture: str) -> None:
    metadata = header.metadata
    what = (metadata.get("general.type"), metadata.get("adapter.type"))
    if what != ("adapter", "lora"):
        _refuse("engine.not_a_lora", path)
    if header.architecture != architecture:
        _refuse(
            "engine.adapter_of_another", path, theirs=header.architecture, ours=architecture
        )  # fmt: skip
    if "adapter.alora.invocation_tokens" in metadata:
        _refuse("engine.activated_lora", path)
    _check_numbers(header, path)


def _check_numbers(header: Header, path: str) -> None:
    """What llama.cpp would take, and end its process over: here, or at the first decode."""
    alpha, kind = header.metadata.get(_ALPHA, 0.0), header.kinds.get(_ALPHA, _FLOAT32)
    if kind != _FLOAT32:
        _refuse("engine.adapter_type", path, what=_ALPHA, kind=kind)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        _refuse("engine.adapter_type", path, what=_ALPHA, kind=alpha)
    for tensor in header.tensors:
        if tensor.kind.name in _NOT_MULTIPLIED:
            kind = tensor.kind.name.lower()
            _refuse("engine.adapter_type", path, what=clean_line(tensor.name, 80), kind=kind)


def _read_vector(header: Header, path: str, width: int, layers: int) -> npt.NDArray[np.float32]:
    """The directions of the layers from 1 on, zero where there is none: (layers - 1, width)."""
    found = [tensor for tensor in header.tensors if tensor.name.startswith(_VECTOR)]
    if not found:
        _refuse("engine.not_a_vector", path)
    rows = np.zeros((max(1, layers - 1), width), np.float32)
    for tensor in found:
        number = tensor.name.removeprefix(_VECTOR)
        layer = int(number) if number.isascii() and number.isdigit() else 0
        if tensor.kind.name != _F32 or tensor.shape != (width,) or not 1 <= layer < layers:
            _refuse("engine.vector_of_another", path, tensor=tensor.name, width=width)
        offset = header.data_offset + tensor.offset
        rows[layer - 1] = np.fromfile(path, "<f4", width, offset=offset)
    if not np.isfinite(rows).all():
        _refuse("engine.not_a_vector", path)
    return rows


def _refuse(key: str, path: str, **values: Any) -> NoReturn:  # noqa: ANN401 - what the sentence names
    raise EngineError(key, name=Path(path).name, **values)
