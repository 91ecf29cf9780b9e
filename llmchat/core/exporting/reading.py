"""From the bytes of a file to conversations: bounded, whatever it is and whoever made it.

Owns the limits, the decoding of JSON and JSONL, and finding out which program wrote it. Each format
has a module of its own. Everything that can be wrong with a file is a StoreError.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from llmchat.core.exporting import chatgpt, lmstudio, openai, openwebui, own
from llmchat.errors import StoreError
from llmchat.values import SavedConversation

MAX_BYTES = 256 * 2**20
"""The largest file that is read."""

MAX_CONTAINERS = 3_000_000
MAX_VALUES = 10_000_000
"""Objects, lists and values that a file may hold: memory that text does not bound (an empty list is
two bytes in a file and 60 in memory). Counted by their brackets and commas, text's included."""

_LARGEST = 2**64


class ImportedFile(Struct, frozen=True, kw_only=True):
    """What a file holds."""

    format: str
    """`llmchat`, `chatgpt`, `openwebui`, `lmstudio` or `openai`."""
    conversations: tuple[SavedConversation, ...]
    """The ones used first come first. Ids are ours in our own files and empty in others'."""
    left_out: int = 0
    """Entries that are empty, or no conversations."""


class _Foreign(Struct, frozen=True):
    name: str
    is_one: Callable[[object], bool]
    read: Callable[[dict[str, Any]], SavedConversation]


_READERS = (
    _Foreign("chatgpt", chatgpt.is_one, chatgpt.read),
    _Foreign("openwebui", openwebui.is_one, openwebui.read),
    _Foreign("lmstudio", lmstudio.is_one, lmstudio.read),
    _Foreign("openai", openai.is_one, openai.read),
)


def read(data: bytes) -> ImportedFile:
    """Everything in a file.

    Raises:
        StoreError: it is too large, damaged, or none of the formats.
    """
    _check_size(data)
    decoded = _decode(data)
    if isinstance(decoded, dict) and decoded.get("format") == own.FORMAT:
        return ImportedFile(format=own.FORMAT, conversations=tuple(own.read(decoded)))
    return _read_foreign(_entries(decoded))


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise StoreError("core.import_too_large", limit=MAX_BYTES >> 20)
    if data.startswith(b"PK\x03\x04"):
        raise StoreError("core.import_zip")
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS or data.count(b",") > MAX_VALUES:
        raise StoreError("core.import_too_many")


def _decode(data: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StoreError("core.import_not_json", reason=str(error)) from error
    try:
        return _loads(text)
    except (ValueError, RecursionError) as error:
        lines = _decode_lines(text)
        if lines is None:
            raise StoreError("core.import_not_json", reason=str(error)) from error
        return lines


def _decode_lines(text: str) -> list[Any] | None:
    """JSONL: an object a line; None if it is not that."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 2:
        return None
    try:
        return [_loads(line) for line in lines]
    except (ValueError, RecursionError):
        return None


def _loads(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    return json.loads(text, parse_constant=_no_number, parse_float=_float, parse_int=_int)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _int(text: str) -> int:
    number = int(text) if len(text) <= 20 else _LARGEST
    if not -_LARGEST // 2 <= number < _LARGEST:
        raise ValueError("a number is too large")
    return number


def _entries(decoded: object) -> list[Any]:
    """What may be conversations: a list's items, or the one thing that the file is."""
    if not isinstance(decoded, list):
        return [decoded]
    whole = {"messages": decoded}
    return [whole] if openai.is_one(whole) else decoded


def _read_foreign(entries: list[Any]) -> ImportedFile:
    found: list[SavedConversation] = []
    names: dict[str, None] = {}
    for entry in entries:
        reader = next((reader for reader in _READERS if reader.is_one(entry)), None)
        if reader is None:
            continue
        names[reader.name] = None
        saved = reader.read(entry)
        if saved.messages:
            found.append(saved)
    if not names:
        raise StoreError("core.import_unknown")
    if not found:
        raise StoreError("core.import_empty")
    return ImportedFile(
        format=", ".join(names),
        conversations=tuple(sorted(found, key=lambda saved: saved.updated)),
        left_out=len(entries) - len(found),
    )
