"""The header of a GGUF file, read as if somebody had made it to hurt us.

Owns the format (versions 2 and 3, little endian: ggml/docs/gguf.md and ggml/src/gguf.cpp) and its
bounds: llama.cpp trusts more of a header than it should, and some headers end its process. Only the
header is read, wherever it comes from; long arrays (a vocabulary) are passed over and can be read
later. Refuses to say what the numbers mean (`describe.py`) and whether to load (`check.py`).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from llmchat.errors import ModelFileError
from llmchat.gguf.source import Cursor, Damaged, Fetch, as_error, open_file
from llmchat.gguf.types import TENSOR_TYPES, VALUE_TYPES, TensorType

MAGIC: Final = b"GGUF"
MAX_KEYS: Final = 65_536
MAX_TENSORS: Final = 131_072
MAX_KEY_BYTES: Final = 65_535
MAX_STRING_BYTES: Final = 4 * 1024 * 1024
"""One text, e.g. a chat template."""
MAX_STRINGS: Final = 4_000_000
"""Elements of one array of texts; the largest vocabularies have 262,144 tokens."""
MAX_EAGER: Final = 4096
"""Elements up to which an array of numbers is read at once: one number a layer, not a token."""
MAX_EAGER_STRINGS: Final = 256
MAX_DIMS: Final = 4
MAX_NAME_BYTES: Final = 63
"""GGML_MAX_NAME is 64 with its end."""

_STRING: Final = 8
_ARRAY: Final = 9
_FIXED: Final = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_SIZES: Final = {kind: struct.calcsize("<" + code) for kind, code in _FIXED.items()}

Scalar = int | float | bool | str


class BigArray(Struct, frozen=True):
    """An array that was passed over: where its elements begin."""

    kind: int
    count: int
    offset: int


Value = Scalar | tuple[Scalar, ...] | BigArray


class Tensor(Struct, frozen=True):
    """One tensor's place. `offset` counts from the start of the data."""

    name: str
    shape: tuple[int, ...]
    kind: TensorType
    offset: int
    size: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        count = 1
        for length in self.shape:
            count *= length
        return count


class Header(Struct, frozen=True):
    """What stands before the weights. Texts are as in the file: clean them where they are shown."""

    version: int
    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset: int
    file_size: int
    """Bytes of this file: a shard's own, when there are several."""
    kinds: dict[str, str] = {}
    """How each value is stored ("float32", "array"), for readers that want it so and not alike."""

    def text(self, key: str, default: str = "") -> str:
        """A text, or `default` when it is missing or something else."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else default

    def number(self, key: str, default: int = 0) -> int:
        """A whole number, or `default`; of one number a layer, the largest."""
        value = self.metadata.get(key)
        if isinstance(value, tuple):
            value = max((item for item in value if isinstance(item, int)), default=default)
        return int(value) if isinstance(value, int) else default

    @property
    def architecture(self) -> str:
        """`general.architecture`: the prefix of the model's own keys."""
        return self.text("general.architecture")

    @property
    def shards(self) -> int:
        """Files that make the whole: 1 or `split.count`."""
        return max(1, self.number("split.count", 1))


def read_header(path: str | Path) -> Header:
    """The header of a file.

    Raises:
        ModelFileError: no file, no GGUF, incomplete, or out of bounds; it names the file.
    """
    with open_file(path) as (fetch, size):
        return read_ranges(fetch, size, Path(path).name)


def read_ranges(fetch: Fetch, size: int, name: str) -> Header:
    """The header of a file of `size` bytes, through ranges of it.

    Raises:
        ModelFileError: as `read_header`.
    """
    try:
        return _header(Cursor(fetch, size))
    except Damaged as damage:
        raise as_error(damage, name) from damage


def read_strings(fetch: Fetch, size: int, array: BigArray) -> Iterator[bytes]:
    """The texts of an array that was passed over, undecoded.

    Raises:
        Damaged: one is longer than 256 KiB, or the file has changed since.
    """
    cursor = Cursor(fetch, size)
    cursor.skip(array.offset)
    return cursor.strings(array.count)


def _header(cursor: Cursor) -> Header:
    _check_magic(cursor)
    (version,) = struct.unpack("<I", cursor.take(4))
    if version not in (2, 3):
        # A big-endian file's version 3 reads as 3 << 24.
        key = "big_endian" if version & 0xFFFF == 0 and version else "version"
        raise Damaged(key, version=version)
    n_tensors, n_keys = struct.unpack("<QQ", cursor.take(16))
    if n_tensors > MAX_TENSORS or n_keys > MAX_KEYS:
        raise Damaged("out_of_bounds", what=f"{n_tensors} tensors, {n_keys} keys")
    metadata: dict[str, Value] = {}
    kinds: dict[str, str] = {}
    for _ in range(n_keys):
        key = _text(cursor, MAX_KEY_BYTES)
        if key in metadata:
            raise Damaged("duplicate", what=key)
        kinds[key], metadata[key] = _value(cursor, key)
    alignment = _alignment(metadata)
    infos = [_tensor(cursor) for _ in range(n_tensors)]
    data_offset = -(-cursor.place // alignment) * alignment
    _check_tensors(infos, alignment, cursor.size - data_offset)
    return Header(version, metadata, tuple(infos), data_offset, cursor.size, kinds)


def _check_magic(cursor: Cursor) -> None:
    start = cursor.take(min(64, cursor.size))
    if len(start) < 4 and MAGIC.startswith(start):
        raise Damaged("incomplete")
    if not start.startswith(MAGIC):
        raise Damaged(_what_it_is(start))
    cursor.place = 4


def _what_it_is(start: bytes) -> str:
    """The key that says what a file is that is no GGUF."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is_web_page"
    if start.startswith(b"PK\x03\x04"):
        return "is_zip"
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return "is_pickle"
    if start[8:9] == b"{":
        return "is_safetensors"
    if text.startswith(b"version https://git-lfs"):
        return "is_pointer"
    return "not_gguf"


def _length(cursor: Cursor, most: int) -> int:
    length: int = struct.unpack("<Q", cursor.take(8))[0]
    if length > most:
        raise Damaged("out_of_bounds", what=f"a text of {length} bytes")
    return length


def _text(cursor: Cursor, most: int) -> str:
    return cursor.take(_length(cursor, most)).decode("utf-8", "replace")


def _value(cursor: Cursor, key: str) -> tuple[str, Value]:
    """How it is stored, and what it is."""
    kind: int = struct.unpack("<I", cursor.take(4))[0]
    if kind == _STRING:
        return VALUE_TYPES[kind], _text(cursor, MAX_STRING_BYTES)
    if kind == _ARRAY:
        return VALUE_TYPES[kind], _array(cursor, key)
    if kind not in _FIXED:
        raise Damaged("out_of_bounds", what=f"{key} has type {kind}")
    value: Scalar = struct.unpack("<" + _FIXED[kind], cursor.take(_SIZES[kind]))[0]
    return VALUE_TYPES[kind], value


def _array(cursor: Cursor, key: str) -> Value:
    kind, count = struct.unpack("<IQ", cursor.take(12))
    array = BigArray(kind, count, cursor.place)
    if kind == _STRING:
        if count > MAX_STRINGS:
            raise Damaged("out_of_bounds", what=f"{key} has {count} texts")
        if count <= MAX_EAGER_STRINGS:
            return tuple(_text(cursor, MAX_STRING_BYTES) for _ in range(count))
        cursor.skip_strings(count)
        return array
    if kind not in _FIXED:
        # Arrays of arrays are in the format, but llama.cpp takes none.
        raise Damaged("out_of_bounds", what=f"{key} holds type {kind}")
    if count > 2**40:
        raise Damaged("out_of_bounds", what=f"{key} has {count} elements")
    length = count * _SIZES[kind]
    if count > MAX_EAGER:
        cursor.skip(length)
        return array
    return struct.unpack(f"<{count}{_FIXED[kind]}", cursor.take(length))


def _alignment(metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment", 32)
    # The upper bound is ours: pages of 64 KiB are the largest that anybody aligns to.
    if not isinstance(value, int) or not 0 < value <= 65_536 or value & (value - 1):
        raise Damaged("out_of_bounds", what=f"general.alignment is {value}")
    return value


def _tensor(cursor: Cursor) -> Tensor:
    name = _text(cursor, MAX_NAME_BYTES)
    n_dims: int = struct.unpack("<I", cursor.take(4))[0]
    if not 0 < n_dims <= MAX_DIMS:
        raise Damaged("out_of_bounds", what=f"{name} has {n_dims} dimensions")
    shape = struct.unpack(f"<{n_dims}Q", cursor.take(8 * n_dims))
    number, offset = struct.unpack("<IQ", cursor.take(12))
    kind = TENSOR_TYPES.get(number)
    if kind is None:
        raise Damaged("unknown_type", what=name, number=number)
    elements = 1
    for length in shape:
        elements *= length
    if not 0 < elements < 2**62:
        raise Damaged("out_of_bounds", what=f"{name} has the shape {shape}")
    if shape[0] % kind.block:
        raise Damaged("out_of_bounds", what=f"{name} has rows of {shape[0]} {kind.name}")
    return Tensor(name, shape, kind, offset, elements // kind.block * kind.size)


def _check_tensors(tensors: list[Tensor], alignment: int, data: int) -> None:
    """Every tensor in its place: aligned, once, side by side, inside the file."""
    names: set[str] = set()
    expected = 0
    for tensor in tensors:
        if tensor.name in names:
            raise Damaged("duplicate", what=tensor.name)
        names.add(tensor.name)
        # As gguf.cpp: each begins where the last one ended, padded.
        if tensor.offset != expected:
            raise Damaged("out_of_bounds", what=f"{tensor.name} begins at {tensor.offset}")
        expected += -(-tensor.size // alignment) * alignment
        if tensor.offset + tensor.size > data:
            raise Damaged("incomplete")


__all__ = ["BigArray", "Header", "ModelFileError", "Tensor", "read_header", "read_ranges"]
