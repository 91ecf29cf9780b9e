"""Rows to values and back: what each column means.

Owns encoding; refuses statements. What is read is forgiven: a field that this version does not
know, or a value that cannot be, is left out or put right, never an error, so that one damaged row
hides nothing but itself.
"""

import re
import struct
from collections.abc import Sequence
from itertools import groupby
from typing import Any, TypeVar

import msgspec

from llmchat.store.database import Row, SqlValue
from llmchat.values import ChatSettings, Conversation, Generation, Message, Part

CONVERSATION = (
    "id, CAST(title AS BLOB), created, updated, CAST(settings AS BLOB), active_leaf, source,"
    " pinned, CAST(folder AS BLOB), deleted"
)
"""Text as bytes where a person or another program chose it: not all of it need be UTF-8."""
MESSAGE = "seq, id, conversation, parent, role, status, created, error"

LAST_SECOND = 253_402_300_799.0
"""The end of the year 9999."""

_SURROGATE = re.compile("[\ud800-\udfff]")

T = TypeVar("T", bound=msgspec.Struct)


def to_json(value: object) -> str:
    """A value as a JSON column."""
    return msgspec.json.encode(value).decode()


def storable(text: str) -> str:
    """`text` with U+FFFD for lone surrogates, which neither SQLite nor the wire can carry."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _usable(data: object, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Only the fields that `kind` has and that fit, in nested structs too; "" for what must be."""
    found: dict[str, Any] = data if isinstance(data, dict) else {}
    kept: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        name, inner = field.encode_name, field.type
        if name in found and isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            kept[name] = _usable(found[name], inner)
        elif name in found and _fits(found[name], inner):
            kept[name] = found[name]
        elif field.required:
            kept[name] = ""
    return kept


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401 - a type, a union or a literal
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def from_json(text: object, kind: type[T]) -> T:
    """A JSON column as a struct; what cannot be understood is left out."""
    raw = text if isinstance(text, bytes) else str(text)
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.convert(_usable(_json(raw), kind), kind)


def _json(raw: str | bytes) -> object:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def conversation(row: Row) -> Conversation:
    """The columns of `CONVERSATION`."""
    id_, title, created, updated, settings, leaf, source, pinned, folder, deleted = row
    return Conversation(
        id=str(id_),
        title=_text(title) or "",
        created=_number(created),
        updated=_number(updated),
        settings=from_json(settings, ChatSettings),
        active_leaf=_text(leaf),
        source=str(source),
        pinned=bool(pinned),
        folder=_text(folder),
        deleted=None if deleted is None else _number(deleted),
    )


def part(kind: object, text: SqlValue, blob: object, meta: object) -> Part:
    """The columns of a part."""
    values: dict[str, Any] = {"kind": kind, "text": _text(text) or "", "blob": blob}
    if meta != "{}":
        values["meta"] = _json(str(meta))
    try:
        return msgspec.convert(values, Part)
    except msgspec.ValidationError:
        return msgspec.convert(_usable(values, Part) | {"kind": "text"}, Part)


def message(
    row: Row,
    parts: tuple[Part, ...],
    generation: Generation | None = None,
    siblings: tuple[str, ...] = (),
) -> Message:
    """The columns of `MESSAGE` with what belongs to it."""
    seq, id_, conversation_id, parent, role, status, created, error = row
    values = {
        "id": id_,
        "conversation": conversation_id,
        "parent": parent,
        "role": role,
        "status": status,
        "seq": seq,
        "created": created,
        "error": error,
        "parts": (),
    }
    try:
        plain = msgspec.convert(values, Message)
    except msgspec.ValidationError:
        usual = {"role": "assistant", "status": "interrupted"}
        kept = {name: value for name, value in _usable(values, Message).items() if value != ""}
        plain = msgspec.convert({"id": "", "conversation": ""} | usual | kept, Message)
    return msgspec.structs.replace(plain, parts=parts, generation=generation, siblings=siblings)


def merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Parts with neighbours of the same streamed kind joined into one."""
    result: list[Part] = []
    for kind, run in groupby(parts, key=lambda part: part.kind):
        same = list(run)
        if kind not in ("text", "thinking") or len(same) == 1:
            result += same
        else:
            text = "".join(part.text for part in same)
            result.append(Part(kind=kind, text=text, meta=same[0].meta))
    return tuple(result)


def pack_tokens(tokens: tuple[int, ...]) -> bytes:
    """Token ids as unsigned 32-bit integers, little endian."""
    return struct.pack(f"<{len(tokens)}I", *tokens)


def unpack_tokens(data: SqlValue) -> tuple[int, ...]:
    """The inverse of `pack_tokens`."""
    assert isinstance(data, bytes)
    return struct.unpack(f"<{len(data) // 4}I", data)


def _text(value: SqlValue) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)


def _number(value: SqlValue) -> float:
    """Seconds since 1970; 0 for what no calendar has."""
    if not isinstance(value, (int, float)) or not -LAST_SECOND < value < LAST_SECOND:
        return 0.0
    return float(value)
