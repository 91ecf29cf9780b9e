"""Our own file: every version of every message, without loss.

    {"format": "llmchat", "version": 1, "conversations": [SavedConversation, ...]}

The bytes of attachments are base64 under their sha256, in `blobs` of the first conversation that
has them (`core/enclosing.py`); files without them are read too.

What is read from one is checked like anything from outside: afterwards ids name one thing, parents
come before what follows them, times are times, and attachments are what their hashes say.
"""

import hashlib
import re
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from llmchat.core.exporting.branches import newest_leaf
from llmchat.errors import StoreError
from llmchat.values import Origin, SavedConversation, SavedMessage

FORMAT = "llmchat"
VERSION = 1

BEGIN = f'{{"format":"{FORMAT}","version":{VERSION},"conversations":[\n'
BETWEEN = ",\n"
END = "\n]}\n"

LAST_MOMENT = 253402300800.0
"""The year 10000, in seconds since 1970: beyond it no calendar goes."""

MAX_BLOB = 64 * 2**20
"""Bytes of one attachment: what may be attached (`attaching/attachments.py`)."""

MAX_LEVELS = 64
"""Objects and lists inside each other in the definition of a tool."""

_ID = re.compile("[0-9A-HJKMNP-TV-Z]{26}")
_BLOB = re.compile("[0-9a-f]{64}")


class File(Struct, kw_only=True):
    """The whole file."""

    format: str
    version: int
    conversations: tuple[SavedConversation, ...]


def encode(saved: SavedConversation) -> str:
    """One conversation of the file."""
    return msgspec.json.encode(saved).decode()


def read(data: dict[str, Any]) -> list[SavedConversation]:
    """What a decoded file holds, checked.

    Raises:
        StoreError: it is damaged, or was written by a newer llmchat.
    """
    version = data.get("version")
    if isinstance(version, int) and version > VERSION:
        raise StoreError("core.import_newer", version=version)
    try:
        file = msgspec.convert(data, File, str_keys=True)
    except (msgspec.ValidationError, UnicodeError) as error:  # the second: half a character
        raise StoreError("core.import_damaged", reason=str(error)) from error
    return [_checked(saved) for saved in file.conversations]


def _checked(saved: SavedConversation) -> SavedConversation:
    _require(_ID.fullmatch(saved.id) is not None, f"the id {saved.id[:40]!r}")
    seen: set[str] = set()
    marks: set[str] = set()
    messages = []
    for message in saved.messages:
        _check_message(message, seen)
        seen.add(message.id)
        if message.deleted is not None:
            marks.add(message.deleted)
        status = "interrupted" if message.status == "streaming" else message.status
        messages.append(replace(message, status=status, created=_moment(message.created)))
    _require(marks <= seen, "a deletion of a message that is not there")
    visible = {message.id for message in messages if message.deleted is None}
    _require(saved.settings.tools is None or _are_tools(saved.settings.tools), "the tools")
    for digest, data in saved.blobs.items():
        _check_blob(digest, data)
    whole = tuple(messages)
    leaf = saved.active_leaf if saved.active_leaf in visible else newest_leaf(whole)
    return replace(
        saved,
        messages=whole,
        active_leaf=leaf,
        created=_moment(saved.created),
        updated=_moment(saved.updated),
        deleted=None if saved.deleted is None else _moment(saved.deleted),
    )


def _check_message(message: SavedMessage, seen: set[str]) -> None:
    _require(_ID.fullmatch(message.id) is not None, f"the id {message.id[:40]!r}")
    _require(message.id not in seen, f"{message.id} twice")
    _require(message.parent is None or message.parent in seen, f"no parent of {message.id}")
    _require(all(0 <= token < 2**32 for token in message.tokens), f"tokens of {message.id}")
    for part in message.parts:
        known = part.blob is None or _BLOB.fullmatch(part.blob) is not None
        _require(known, f"an attachment of {message.id}")
    if message.generation is not None:
        for name, origin in message.generation.settings.items():
            fits = _are_tools(origin.value) if name == "tools" else _is_plain(origin)
            _require(fits, f"a setting of {message.id}")


def _are_tools(value: object) -> bool:
    """OpenAI-shaped definitions, as `run --tool` makes them; a schema is a few levels deep."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(tool, dict)
        and tool.get("type") == "function"
        and isinstance(function := tool.get("function"), dict)
        and isinstance(function.get("name"), str)
        and _is_shallow(tool, MAX_LEVELS)
        for tool in value
    )


def _is_shallow(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in inner)


def _check_blob(digest: str, data: bytes) -> None:
    _require(len(data) <= MAX_BLOB, f"the size of the attachment {digest[:64]!r}")
    _require(hashlib.sha256(data).hexdigest() == digest, f"the attachment {digest[:64]!r}")


def _is_plain(origin: Origin) -> bool:
    """A setting is a value, a list of them, or a table: nothing nested."""
    value = origin.value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not any(isinstance(item, (dict, list)) for item in inner)


def _moment(seconds: float) -> float:
    return seconds if 0 <= seconds < LAST_MOMENT else 0.0


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise StoreError("core.import_damaged", reason=what)
