"""Files that released versions left behind open with today's code, row for row.

A committed file for every released schema; `released/make.py` says how each was built.
"""

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from llmchat.store.migrations import STEPS
from llmchat.store.recovering import recover
from tests.store.released.make import HERE, digests
from tests.store.test_faults import open_at, words

RELEASES = sorted(path.name.removesuffix(".db.xz") for path in HERE.glob("*.db.xz"))


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The file, unpacked, and what was in it when it was made."""
    path = tmp_path / "data" / "chats.db"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(lzma.decompress((HERE / f"{request.param}.db.xz").read_bytes()))
    record: dict[str, Any] = json.loads((HERE / f"{request.param}.json").read_text())
    return path, record


def columns(record: dict[str, Any]) -> dict[str, list[str]]:
    return {table: held["columns"] for table, held in record["tables"].items()}


def test_there_is_one_for_every_schema():
    assert RELEASES


def test_every_row_is_as_it_was_after_migrating(release):
    path, record = release
    assert digests(path, columns(record)) == record["tables"]
    store = open_at(path.parent)
    assert store.notices == []
    assert store.db.one("PRAGMA integrity_check") == ("ok",)
    assert store.db.read("PRAGMA foreign_key_check") == []
    store.db.read("PRAGMA wal_checkpoint(TRUNCATE)")
    assert digests(path, columns(record)) == record["tables"]
    backups = list(path.parent.glob("chats.db.*.before-*"))
    pending = {step.__name__ for step in STEPS} - set(record["steps"])
    assert len(backups) == bool(pending)
    for backup in backups:
        assert digests(backup, columns(record)) == record["tables"]
    store.close()


def test_it_can_be_searched_shown_and_gone_on_with(release):
    path, _ = release
    store = open_at(path.parent)
    chats = store.conversations.list(include_cli=True)
    assert len(chats) == 46  # four of the fifty are deleted
    assert store.search("日本語")
    assert store.search("wave", limit=1000)
    shown = [store.tree.branch(chat.id, chat.active_leaf) for chat in chats]
    assert max(len(m.text.encode()) for branch in shown for m in branch) > 5_000_000
    assert any("\x00" in m.text for branch in shown for m in branch)
    chat = chats[0]
    _, (reply,) = store.writer.begin(chat.id, chat.active_leaf, question=words("and now?"))
    assert store.tree.get(reply).status == "streaming"
    store.close()


def test_all_of_it_is_found_by_carving_too(release):
    path, record = release
    found = recover(path)
    assert len(found) == record["tables"]["conversation"]["rows"]
    assert sum(len(c.messages) for c in found) == record["tables"]["message"]["rows"]
    parts = sum(len(m.parts) for c in found for m in c.messages)
    assert parts == record["tables"]["part"]["rows"]
