"""Rows to values and back: what each column means.

Owns encoding; refuses statements. JSON columns are written whole and read forgivingly: a field that
this version does not know is left out, never an error.
"""

import re
import struct
from collections.abc import Sequence
from itertools import groupby
from typing import Any, TypeVar

import msgspec

from llmchat.store.database import Row, SqlValue
from llmchat.values import ChatSettings, Conversation, Generation, Message, Part

CONVERSATION = "id, title, created, updated, settings, active_leaf, source, pinned, folder, deleted"
MESSAGE = "seq, id, conversation, parent, role, status, created, error"

_SURROGATE = re.compile("[\ud800-\udfff]")

T = TypeVar("T", bound=msgspec.Struct)


def to_json(value: object) -> str:
    """A value as a JSON column."""
    return msgspec.json.encode(value).decode()


def storable(text: str) -> str:
    """`text` with U+FFFD for lone surrogates, which neither SQLite nor the wire can carry."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _known(data: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Only the fields that `kind` has, in nested structs too."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    kept: dict[str, Any] = {}
    for name, value in data.items():
        if name not in fields:
            continue
        inner = fields[name].type
        is_struct = isinstance(inner, type) and issubclass(inner, msgspec.Struct)
        kept[name] = _known(value, inner) if is_struct and isinstance(value, dict) else value
    return kept


def from_json(text: object, kind: type[T]) -> T:
    """A JSON column as a struct; what cannot be understood is left out."""
    try:
        return msgspec.json.decode(str(text), type=kind)
    except msgspec.ValidationError:
        return msgspec.convert(_known(msgspec.json.decode(str(text)), kind), kind)


def conversation(row: Row) -> Conversation:
    """The columns of `CONVERSATION`."""
    id_, title, created, updated, settings, leaf, source, pinned, folder, deleted = row
    return Conversation(
        id=str(id_),
        title=str(title),
        created=_number(created),
        updated=_number(updated),
        settings=from_json(settings, ChatSettings),
        active_leaf=_text(leaf),
        source=str(source),
        pinned=bool(pinned),
        folder=_text(folder),
        deleted=None if deleted is None else _number(deleted),
    )


def part(kind: object, text: object, blob: object, meta: object) -> Part:
    """The columns of a part."""
    values: dict[str, Any] = {"kind": kind, "text": text, "blob": blob}
    if meta != "{}":
        values["meta"] = msgspec.json.decode(str(meta))
    return msgspec.convert(values, Part)


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
    plain = msgspec.convert(values, Message)
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
    return None if value is None else str(value)


def _number(value: SqlValue) -> float:
    assert isinstance(value, (int, float))
    return float(value)
