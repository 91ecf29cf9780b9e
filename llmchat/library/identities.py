"""What was learnt about files, remembered, so that a second listing opens none of them.

Owns one small file of ours, keyed by path, size and modification time: whether a file is a GGUF,
and its identity where no store names one (reading 2 MiB of each costs too much). Refuses to fail a
listing: what cannot be read or written is computed again.
"""

import os
from pathlib import Path

import msgspec

from llmchat.library.found import is_gguf, stand_in
from llmchat.whole_file import write_whole

_MAX = 20_000
"""Files remembered; beyond it the memory starts anew."""


class Identities:
    """Identities by path. One instance serves one listing after another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[int, int, str]] | None = None
        self._changed = False

    def is_gguf(self, path: str) -> bool:
        """Whether the file is one; only a new or changed file is opened."""
        try:
            facts = os.stat(path)
        except OSError:
            return False
        if self._remembered(path, facts) is not None:
            return True
        if not is_gguf(path):
            return False
        self._remember(path, facts, "")
        return True

    def of(self, path: str) -> str:
        """The file's identity; computed only when its size or time is another than remembered.

        Raises:
            OSError: it cannot be read.
        """
        facts = os.stat(path)
        known = self._remembered(path, facts)
        if known:
            return known
        identity = stand_in(path)
        self._remember(path, facts, identity)
        return identity

    def _remembered(self, path: str, facts: os.stat_result) -> str | None:
        """The identity, "" where only the kind is known, None for a file that is new or changed."""
        if self._known is None:
            self._known = self._load()
        known = self._known.get(path)
        if known is None or known[:2] != (facts.st_size, facts.st_mtime_ns):
            return None
        return known[2]

    def _remember(self, path: str, facts: os.stat_result, identity: str) -> None:
        if self._known is None:
            self._known = self._load()
        if len(self._known) >= _MAX:
            self._known.clear()
        self._known[path] = (facts.st_size, facts.st_mtime_ns, identity)
        self._changed = True

    def save(self) -> None:
        """Write what was learnt, if anything."""
        if not self._changed or self._known is None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path, msgspec.json.encode(self._known), lasting=False)
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
