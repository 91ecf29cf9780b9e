"""What this machine can compute on, as ggml lists it.

Owns the device functions that libggml exports and llama_cpp does not bind. A list of devices is a
value, so placement is tested on recorded ones.
"""

import ctypes
from functools import cache
from typing import Any, Final

from llama_cpp import llama_cpp as lib
from msgspec import Struct

from llmchat.engine.protocol import Device
from llmchat.engine.worker.capi import Pointer
from llmchat.engine.worker.ram import free_ram

_KINDS: Final = ("cpu", "gpu", "igpu", "accel")
"""`enum ggml_backend_dev_type`; what comes later counts as an accelerator."""


class Found(Struct, frozen=True):
    """A device, and the address of its `ggml_backend_dev_t`."""

    device: Device
    handle: int


@cache
def _ggml() -> Pointer:
    """A handle that resolves ggml's symbols: libllama's dependencies are searched too."""
    library = lib._lib
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    shapes: dict[str, tuple[Any, list[Any]]] = {
        "ggml_backend_dev_count": (size, []),
        "ggml_backend_dev_get": (pointer, [size]),
        "ggml_backend_dev_name": (ctypes.c_char_p, [pointer]),
        "ggml_backend_dev_description": (ctypes.c_char_p, [pointer]),
        "ggml_backend_dev_type": (ctypes.c_int, [pointer]),
        "ggml_backend_dev_memory": (None, [pointer] + 2 * [ctypes.POINTER(size)]),
        "ggml_backend_buft_get_device": (pointer, [pointer]),
        "ggml_backend_buft_name": (ctypes.c_char_p, [pointer]),
        "ggml_backend_cpu_buffer_type": (pointer, []),
    }
    for name, (result, arguments) in shapes.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def find_devices() -> tuple[Found, ...]:
    """Every device with its memory as of now, GPUs and the CPU alike."""
    ggml = _ggml()
    found = []
    for index in range(ggml.ggml_backend_dev_count()):
        handle = ggml.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
        ggml.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
        kind = ggml.ggml_backend_dev_type(handle)
        if kind == 0:
            free.value = free_ram() or free.value
        device = Device(
            name=_words(ggml.ggml_backend_dev_name(handle)),
            description=_words(ggml.ggml_backend_dev_description(handle)),
            type=_KINDS[kind] if 0 <= kind < len(_KINDS) else "accel",
            free=free.value,
            total=total.value,
        )
        found.append(Found(device, int(handle)))
    return tuple(found)


def device_of_buffer(buffer_type: int) -> str:
    """The name of the device that a buffer type's memory lies on; `CPU` for the host's."""
    ggml = _ggml()
    handle = ggml.ggml_backend_buft_get_device(buffer_type)
    return _words(ggml.ggml_backend_dev_name(handle)) if handle else "CPU"


def cpu_buffer() -> int:
    """The address of the CPU's buffer type."""
    return int(_ggml().ggml_backend_cpu_buffer_type() or 0)


def _words(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", "replace")
