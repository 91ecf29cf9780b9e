"""Identities of files that no store names, remembered: reading 2 MiB of each costs too much.

Owns one small file of ours, keyed by path, size and modification time. Refuses to fail a listing:
what cannot be read or written is computed again.
"""

import os
import threading
from pathlib import Path

import msgspec

from llmchat.library.found import stand_in

_MAX = 20_000
"""Files remembered; beyond it the memory starts anew."""


class Identities:
    """Identities by path. One instance serves one listing after another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[int, int, str]] | None = None
        self._changed = False

    def of(self, path: str) -> str:
        """The file's identity; computed only when its size or time is another than remembered.

        Raises:
            OSError: it cannot be read.
        """
        if self._known is None:
            self._known = self._load()
        facts = os.stat(path)
        known = self._known.get(path)
        if known is not None and known[:2] == (facts.st_size, facts.st_mtime_ns):
            return known[2]
        identity = stand_in(path)
        if len(self._known) >= _MAX:
            self._known.clear()
        self._known[path] = (facts.st_size, facts.st_mtime_ns, identity)
        self._changed = True
        return identity

    def save(self) -> None:
        """Write what was learnt, if anything."""
        if not self._changed or self._known is None:
            return
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.encode(self._known))
            fresh.replace(self._path)
        except OSError:
            return  # a cache that cannot be written is only slow
        self._changed = False

    def _load(self) -> dict[str, tuple[int, int, str]]:
        try:
            return msgspec.json.decode(
                self._path.read_bytes(), type=dict[str, tuple[int, int, str]]
            )
        except (OSError, msgspec.DecodeError, RecursionError):
            return {}
