"""What the store does when the disk lets it down: every statement, every kind of damage."""

import errno
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from llmchat.errors import StoreError
from llmchat.paths import Places
from llmchat.store import store as store_module
from llmchat.store.database import Database
from llmchat.store.replies import Ending
from llmchat.store.store import MEMORY, Store, open_store
from llmchat.values import Generation, Part, PartKind


def words(text):
    return (Part(kind="text", text=text),)


def open_at(folder: Path) -> Store:
    return open_store(folder / "chats.db", folder / "writers", face="test")


def state(store: Store) -> list[tuple[object, ...]]:
    """Everything that a user could see, without ids and times."""
    seen: list[tuple[object, ...]] = []
    for chat in store.conversations.list(include_cli=True):
        messages = store.tree.all(chat.id)
        shown = [m.seq for m in store.tree.branch(chat.id, chat.active_leaf)]
        status = {"streaming": "interrupted"}
        seen += [(chat.title, tuple(shown))]
        seen += [(m.role, m.text, status.get(m.status, m.status), m.seq) for m in messages]
    return seen


def steps(store: Store) -> list[Callable[[], object]]:
    """One life of a conversation; each step is one promise."""
    ids: dict[str, str] = {}

    def create() -> None:
        ids["chat"] = store.conversations.create(title="a").id

    def begin() -> None:
        _, (ids["reply"],) = store.writer.begin(ids["chat"], None, question=words("q"))

    def checkpoint() -> None:
        store.writer.checkpoint([(ids["reply"], "text", "one "), (ids["reply"], "text", "two")])

    def finish() -> None:
        end = Ending(message=ids["reply"], parts=words("one two three"), status="complete")
        store.writer.finish([end])

    def again() -> None:
        _, replies = store.writer.begin(ids["chat"], store.tree.get(ids["reply"]).parent, n=2)
        ids["second"], ids["third"] = replies

    def finish_both() -> None:
        both = (ids["second"], ids["third"])
        store.writer.finish([Ending(message=i, parts=words("x"), status="complete") for i in both])

    return [
        create,
        begin,
        checkpoint,
        finish,
        again,
        finish_both,
        lambda: store.tree.delete(ids["second"]),
        lambda: store.tree.undelete(ids["second"]),
        lambda: store.tree.fork(ids["reply"], source="tui"),
        lambda: store.conversations.rename(ids["chat"], "b"),
        lambda: store.conversations.purge(ids["chat"]),
    ]


def test_a_fault_at_any_statement_leaves_the_old_or_the_new_state(tmp_path, monkeypatch):
    calls = 0
    fail_at = -1
    real = Database.read

    def read(self, sql, bindings=()):
        nonlocal calls
        calls += 1
        if calls == fail_at:
            raise StoreError("store.failed", path=self.path, reason="a fault for the test")
        return real(self, sql, bindings)

    monkeypatch.setattr(Database, "read", read)
    open_at(tmp_path / "empty").close()
    whole = open_at(tmp_path / "whole")
    states = [state(whole)]
    counts = []
    for step in steps(whole):
        calls = 0
        step()
        counts.append(calls)
        states.append(state(whole))
    whole.close()
    tried = 0
    for position, count in enumerate(counts):
        for number in range(1, count + 1):
            folder = tmp_path / f"{position}-{number}"
            shutil.copytree(tmp_path / "empty", folder)
            store = open_at(folder)
            store.db.read("PRAGMA synchronous = OFF")  # the power stays on in this test
            todo = steps(store)
            for step in todo[:position]:
                step()
            calls, fail_at = 0, number
            with pytest.raises(StoreError, match="a fault"):
                todo[position]()
            fail_at = -1
            store.close()
            again = open_at(folder)
            assert again.notices == []
            found = state(again)
            # A fault after the commit (reading the answer back) leaves the new state.
            assert found in (states[position], states[position + 1]), (position, number)
            again.close()
            shutil.rmtree(folder)
            tried += 1
    assert tried > 60


def test_a_full_disk_is_said_and_loses_nothing(store):
    chat = store.conversations.create(title="kept")
    _, (reply,) = store.writer.begin(chat.id, None, question=words("q"))
    (pages,) = store.db.one("PRAGMA page_count")
    store.db.read(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"):
        store.writer.checkpoint([(reply, "text", "x" * 100_000)])
    assert store.tree.branch(chat.id, reply)[0].text == "q"
    store.db.read("PRAGMA max_page_count = 1000000")
    store.writer.finish([Ending(message=reply, parts=words("done"), status="complete")])
    assert store.tree.get(reply).text == "done"
    assert store.db.read("PRAGMA integrity_check") == [("ok",)]


def filled(folder: Path) -> Path:
    """A store of about 100 pages, closed."""
    store = open_at(folder)
    chat = store.conversations.create(title="old")
    leaf = None
    for number in range(40):
        _, (leaf,) = store.writer.begin(chat.id, leaf, question=words(f"{number} " * 500))
        store.writer.finish([Ending(message=leaf, parts=words("a " * 2000), status="complete")])
    store.close()
    return folder / "chats.db"


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def page(path: Path, number: int, fill: bytes = b"\0") -> None:
    overwrite(path, 4096 * (number - 1), fill * 4096)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "mine").write_text("mine")


def interior(path: Path) -> int:
    """Where the first page of type 5 begins, which leads to a table's rows."""
    data = path.read_bytes()
    return next(place for place in range(4096, len(data), 4096) if data[place] == 5)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "first page zeroed": lambda path: page(path, 1),
    "second page zeroed": lambda path: page(path, 2),
    "a middle page zeroed": lambda path: page(path, 30),
    "a middle page of rubbish": lambda path: page(path, 31, b"\xa5"),
    "half of the file": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut inside a page": lambda path: os.truncate(path, path.stat().st_size // 8192 * 4096 - 1000),
    "one byte": lambda path: os.truncate(path, 1),
    "half a header": lambda path: os.truncate(path, 60),
    "not SQLite": lambda path: path.write_text("my notes\n" * 1000),
    "a wrong magic": lambda path: overwrite(path, 0, b"SQLite format 4\0"),
    "a folder": lambda path: folder_instead(path),
    "a page in two tables": lambda path: overwrite(path, interior(path) + 8, b"\0\0\0\x02"),
}


READABLE: dict[str, tuple[int, int]] = {
    "first page zeroed": (80, 80),
    "second page zeroed": (80, 80),
    "a middle page zeroed": (80, 79),
    "a middle page of rubbish": (80, 79),
    "half of the file": (60, 30),
    "cut inside a page": (60, 30),
    "a wrong magic": (80, 80),
    "a page in two tables": (80, 80),
}
"""Messages, and messages with words, that are read back at least, of 80."""


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_store_is_moved_aside_and_kept_and_what_can_be_read_is_brought_back(
    tmp_path, name
):
    path = filled(tmp_path / "data")
    damage = DAMAGE[name]
    damage(path)
    before = path.read_bytes() if path.is_file() else b"folder"
    store = open_at(tmp_path / "data")
    (notice,) = store.notices
    assert "damaged" in notice
    asides = [p for p in path.parent.iterdir() if ".damaged-" in p.name]
    (aside,) = [p for p in asides if not p.name.endswith(("-wal", "-shm"))]
    assert str(aside) in notice
    assert (aside.read_bytes() if aside.is_file() else b"folder") == before
    old = store.conversations.list()
    messages = [m for c in old for m in store.tree.all(c.id)]
    least = READABLE.get(name, (0, 0))
    assert len(messages) >= least[0]
    assert sum(m.text != "" for m in messages) >= least[1]
    assert [c.title for c in old] == (["old"] if least[0] else [])
    assert not least[0] or store.search("a")
    chat = store.conversations.create(title="new")
    store.writer.begin(chat.id, None, question=words("q"))
    store.close()
    again = open_at(tmp_path / "data")
    assert again.notices == []
    assert [c.title for c in again.conversations.list()] == ["new", *(c.title for c in old)]
    again.close()


def test_an_empty_file_is_a_fresh_store(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chats.db").touch()
    store = open_at(tmp_path / "data")
    assert store.notices == []
    store.conversations.create(title="x")
    store.close()


def read_everything(store: Store) -> None:
    for table in ("conversation", "message", "part", "generation", "message_fts_data"):
        store.db.read(f"SELECT * FROM {table} NOT INDEXED")


def test_damage_found_in_a_large_store_is_found_at_the_next_start(tmp_path, monkeypatch):
    path = filled(tmp_path / "data")
    monkeypatch.setattr(store_module, "SMALL_BYTES", 0)
    page(path, 30)
    store = open_at(tmp_path / "data")
    assert store.notices == []
    with pytest.raises(StoreError, match="damaged"):
        read_everything(store)
    store.close()
    again = open_at(tmp_path / "data")
    assert "damaged" in again.notices[0]
    again.close()


def test_a_newer_store_is_read_but_not_written(tmp_path):
    path = filled(tmp_path / "data")
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO migration VALUES ('step_from_the_future', 0)")
    db.close()
    before = path.read_bytes()
    store = open_at(tmp_path / "data")
    assert "newer" in store.notices[0]
    (chat,) = store.conversations.list()
    assert len(store.tree.branch(chat.id, chat.active_leaf)) == 80
    assert store.search("39")
    for call in (
        lambda: store.conversations.create(title="no"),
        lambda: store.conversations.rename(chat.id, "no"),
        lambda: store.writer.begin(chat.id, None, question=words("no")),
    ):
        with pytest.raises(StoreError, match="newer"):
            call()
    store.close()
    assert path.read_bytes() == before


HOSTILE = {
    "settings of rubbish": "UPDATE conversation SET settings = '{nope'",
    "settings of another shape": "UPDATE conversation SET settings = '[1, 2]'",
    "a bad setting": """UPDATE conversation SET settings = '{"stop": 1, "system": "s"}'""",
    "settings without a bottom": "UPDATE conversation SET settings = '" + "[" * 100_000 + "'",
    "a title that is no UTF-8": "UPDATE conversation SET title = CAST(x'ff41' AS TEXT)",
    "a time that no calendar has": "UPDATE conversation SET created = 9e999, updated = 'soon'",
    "words that are no UTF-8": "UPDATE part SET text = CAST(x'ff41' AS TEXT)",
    "a part of no known kind": "UPDATE part SET kind = 'hologram'",
    "meta of rubbish": "UPDATE part SET meta = '{'",
    "a role nobody has": "UPDATE message SET role = 'pope', status = 'late', created = 'x'",
    "a record of rubbish": "UPDATE generation SET record = '{'",
    "a record of numbers": """UPDATE generation SET record = '{"model": 7, "usage": [1]}'""",
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_row_is_listed_and_read(store, change):
    chat = store.conversations.create(title="good")
    _, (reply,) = store.writer.begin(chat.id, None, question=words("q"))
    made = Generation(model="m")
    end = Ending(message=reply, parts=words("a"), status="complete", generation=made)
    store.writer.finish([end])
    store.db.read("PRAGMA ignore_check_constraints = ON")
    store.db.write(change)
    (listed,) = store.conversations.list()
    assert listed.id == chat.id
    assert listed.settings.system == ("s" if '"system"' in change else None)
    branch = store.tree.branch(chat.id, reply)
    assert [message.id for message in branch][-1] == reply
    assert all(isinstance(message.text, str) for message in branch)
    assert store.conversations.find(chat.id).id == chat.id


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB, mounted where that is permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_really_full_disk(small_disk):
    store = open_at(small_disk)
    chat = store.conversations.create(title="kept")
    _, (reply,) = store.writer.begin(chat.id, None, question=words("q"))
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    piece: tuple[str, PartKind, str] = (reply, "text", "x" * 100_000)
    with pytest.raises(StoreError) as refusal:
        store.writer.checkpoint([piece] * 20)
    assert refusal.value.key == "store.full"
    assert store.tree.get(reply).status == "streaming"
    with pytest.raises(StoreError, match="full"):
        store.writer.begin(chat.id, reply, question=words("more " * 50_000))
    filler.unlink()
    store.writer.finish([Ending(message=reply, parts=words("done"), status="complete")])
    store.writer.begin(chat.id, reply, question=words("more"))
    store.close()
    again = open_at(small_disk)
    assert again.notices == []
    assert again.tree.get(reply).text == "done"
    assert again.db.read("PRAGMA integrity_check") == [("ok",)]
    again.close()


def test_a_read_only_disk_is_read_and_says_why(small_disk):
    store = open_at(small_disk)
    chat = store.conversations.create(title="kept")
    _, (reply,) = store.writer.begin(chat.id, None, question=words("q"))
    store.writer.finish([Ending(message=reply, parts=words("done"), status="complete")])
    store.close()
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True, capture_output=True)
    store = open_at(small_disk)
    (notice,) = store.notices
    assert "Read-only file system" in notice
    assert store.tree.branch(chat.id, reply)[1].text == "done"
    assert store.search("done")
    for call in (
        lambda: store.conversations.rename(chat.id, "no"),
        lambda: store.writer.begin(chat.id, reply, question=words("no")),
    ):
        with pytest.raises(StoreError, match="Read-only file system") as refusal:
            call()
        assert "newer" not in str(refusal.value)
    store.close()


def test_a_file_without_permission_to_write_says_so(tmp_path, monkeypatch):
    path = filled(tmp_path / "data")

    def refuse(_path: Path) -> None:  # root may write whatever the mode says
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(store_module, "make_private_file", refuse)
    before = path.read_bytes()
    store = open_at(tmp_path / "data")
    (notice,) = store.notices
    assert "Permission denied" in notice
    assert "newer" not in notice
    (chat,) = store.conversations.list()
    with pytest.raises(StoreError, match="Permission denied"):
        store.conversations.rename(chat.id, "no")
    store.close()
    assert path.read_bytes() == before


def test_without_a_usable_folder_the_session_is_in_memory(tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    store = open_store(tmp_path / "data" / "chats.db", tmp_path / "writers", face="test")
    assert store.db.path == MEMORY
    assert "memory" in store.notices[0]
    chat = store.conversations.create(title="x")
    _, (reply,) = store.writer.begin(chat.id, None, question=words("q"))
    store.writer.finish([Ending(message=reply, parts=words("a"), status="complete")])
    assert store.tree.get(reply).text == "a"
    store.close()
    assert (tmp_path / "data").read_text() == "a file where the folder should be"


@pytest.mark.parametrize("now", [0.0, -86400.0, 4_291_747_200.0])
def test_order_is_by_sequence_whatever_the_clock_says(store, reopen, monkeypatch, now):
    chat = store.conversations.create(title="first")
    _, (leaf,) = store.writer.begin(chat.id, None, question=words("1"))
    store.writer.finish([Ending(message=leaf, parts=words("2"), status="complete")])
    monkeypatch.setattr(time, "time", lambda: now)  # 1970, a day before it, 2106
    later = store.conversations.create(title="later")
    for text in ("3", "5"):  # in one and the same millisecond
        _, (leaf,) = store.writer.begin(chat.id, leaf, question=words(text))
        store.writer.finish(
            [Ending(message=leaf, parts=words(str(int(text) + 1)), status="complete")]
        )
    _, (extra,) = store.writer.begin(chat.id, store.tree.get(leaf).parent)
    again = reopen()
    shown = again.tree.branch(chat.id, leaf)
    assert [message.text for message in shown] == ["1", "2", "3", "4", "5", "6"]
    assert shown[-1].siblings == (leaf, extra)
    assert [c.title for c in again.conversations.list()] == ["first", "later"]
    assert len({chat.id, later.id, *(message.id for message in shown)}) == 8


def test_versions_of_sqlite():
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    assert found >= (3, 51, 3), "an older one can corrupt a log that two processes checkpoint"


def test_the_writers_of_a_store_in_use_are_left_alone(store, reopen, places: Places):
    chat = store.conversations.create()
    _, (reply,) = store.writer.begin(chat.id, None, question=words("q"))
    store.writer.checkpoint([(reply, "text", "so far")])
    other = reopen()
    assert other.tree.get(reply).status == "streaming"
    assert len(list((places.state / "writers").glob("*.lock"))) == 1
    store.writer.finish([Ending(message=reply, parts=words("all"), status="complete")])
    assert other.changed()
    assert not other.changed()
    assert other.tree.get(reply).text == "all"


def test_a_writer_that_ends_without_finishing_leaves_its_text(store, reopen):
    chat = store.conversations.create()
    _, (reply,) = store.writer.begin(chat.id, None, question=words("q"))
    store.writer.checkpoint([(reply, "thinking", "hm"), (reply, "text", "so far")])
    store.writer.close()
    other = reopen()
    found = other.tree.get(reply)
    assert (found.status, found.text, found.thinking) == ("interrupted", "so far", "hm")
    assert found.error == "The program ended while this was being written."
    assert other.search("far")[0].message == reply
    # The one that wrote it comes back from a long sleep: its text wins.
    store.writer.finish([Ending(message=reply, parts=words("all of it"), status="complete")])
    assert other.tree.get(reply).text == "all of it"
    assert other.search("far") == []
    assert other.db.read("PRAGMA integrity_check") == [("ok",)]
