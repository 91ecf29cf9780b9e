"""Adapters as settings name them, and as the engine is asked for them.

Owns reading `FILE` and `FILE:SCALE`, and that the files a reply uses are among what its model is
loaded with. Refuses opening the files: the worker checks them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from llmchat.engine.protocol import Scaled
from llmchat.values import ChatSettings, Wants


def scaled(entries: Sequence[str] | None) -> tuple[Scaled, ...]:
    """Files with their scales, absolute; 1 where none is given. A name may hold colons."""
    return tuple(map(_scaled, entries or ()))


def _scaled(entry: str) -> Scaled:
    name, colon, number = entry.rpartition(":")
    try:
        scale = float(number) if colon and name else None
    except ValueError:
        scale = None
    if scale is None:
        name, scale = entry, 1.0
    return Scaled(path=str(Path(name).expanduser().absolute()), scale=scale)


def wants_of(values: ChatSettings) -> Wants:
    """What the model is loaded with: the wants, and every file that replies use."""
    wants = values.wants
    files = {
        field: tuple(dict.fromkeys((*(getattr(wants, field) or ()), *_paths(entries)))) or None
        for field, entries in (("lora", values.lora), ("control_vectors", values.control_vectors))
    }
    return msgspec.structs.replace(wants, **files)


def _paths(entries: Sequence[str] | None) -> list[str]:
    return [each.path for each in scaled(entries)]


def of_reply(values: ChatSettings) -> dict[str, Any]:
    """The fields of `Generate` that come from these settings as they are."""
    return {
        "stop": values.stop or (),
        "stop_tokens": values.stop_tokens or (),
        "ignore_eos": bool(values.ignore_eos),
        "lora": scaled(values.lora),
        "control_vectors": scaled(values.control_vectors),
        "speculation": values.speculation or "off",
    }
