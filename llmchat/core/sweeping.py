"""Deleting attached bytes that no conversation and no draft refers to any more.

Owns who may refer to them: every message of the store, deleted or not, and what is being written.
Refuses while that cannot be known: a store in memory, one that is only read, conversations that are
held for a disk that takes nothing, a damaged store beside this one.
"""

import re
from pathlib import Path

from llmchat.core.storing import StoreThread
from llmchat.errors import StoreError

_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def sweep(storage: StoreThread, drafts: Path, *, now: bool = False) -> int:
    """Delete what is not referred to, at most once a day unless `now`; how many files.

    Runs on the store's thread. Nothing that fails here is worth a word: there is a next time.
    """
    store = storage.store
    if storage.blobs is None or storage.held or not store.is_all:
        return 0
    try:
        return storage.blobs.sweep(lambda: store.referred() | in_drafts(drafts), now=now)
    except StoreError:
        return 0


def in_drafts(path: Path) -> set[str]:
    """Every hash that is named in the file of drafts.

    Raises:
        OSError: it is there, and cannot be read.
    """
    try:
        return set(_HASH.findall(path.read_text(encoding="utf-8", errors="replace")))
    except FileNotFoundError:
        return set()
