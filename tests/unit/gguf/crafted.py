"""GGUF files made by hand, byte by byte, so that they can be wrong in ways no writer allows."""

import struct
from collections.abc import Mapping, Sequence

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def value(given: object) -> bytes:
    """A value with its type: str, bool, int (u32), float (f32), list, or bytes as they are."""
    if isinstance(given, bytes):
        return given
    if isinstance(given, str):
        return struct.pack("<I", STRING) + string(given)
    if isinstance(given, bool):
        return struct.pack("<I?", BOOL, given)
    if isinstance(given, int):
        return struct.pack("<II", U32, given)
    if isinstance(given, float):
        return struct.pack("<If", F32, given)
    assert isinstance(given, list)
    if all(isinstance(item, str) for item in given):
        return struct.pack("<IIQ", ARRAY, STRING, len(given)) + b"".join(map(string, given))
    return struct.pack(f"<IIQ{len(given)}I", ARRAY, U32, len(given), *given)


def tensor(name: str, shape: Sequence[int], kind: int, offset: int) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return string(name) + dims + struct.pack("<IQ", kind, offset)


METADATA: Mapping[str, object] = {
    "general.architecture": "llama",
    "general.name": "Crafted",
    "general.file_type": 15,
    "llama.block_count": 2,
    "llama.context_length": 512,
    "llama.embedding_length": 32,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": [f"t{n}" for n in range(300)],
}


def gguf(
    changes: Mapping[str, object] | None = None,
    *,
    tensors: Sequence[bytes] | None = None,
    extra: bytes = b"",
    n_keys: int | None = None,
    n_tensors: int | None = None,
    version: int = 3,
    magic: bytes = b"GGUF",
    data: int = 256,
) -> bytes:
    """A small valid file, changed. A key changed to None is left out; `extra` follows the keys."""
    metadata = {
        key: item for key, item in {**METADATA, **(changes or {})}.items() if item is not None
    }
    infos = tensors if tensors is not None else [tensor("token_embd.weight", (32, 2), 0, 0)]
    keys = b"".join(string(key) + value(item) for key, item in metadata.items()) + extra
    head = magic + struct.pack(
        "<IQQ",
        version,
        len(infos) if n_tensors is None else n_tensors,
        len(metadata) if n_keys is None else n_keys,
    )
    header = head + keys + b"".join(infos)
    return header + bytes(-len(header) % 32) + bytes(data)
