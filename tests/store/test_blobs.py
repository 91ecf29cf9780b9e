"""Which attached bytes are deleted: those that nobody refers to, and nobody is just adding."""

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from llmchat.core.storing import StoreThread
from llmchat.core.sweeping import sweep
from llmchat.errors import StoreError
from llmchat.paths import Places
from llmchat.store import blobs as module
from llmchat.store.blobs import GRACE, Blobs
from llmchat.store.store import memory_store, open_store
from llmchat.values import Part
from llmchat.whole_file import PART_SUFFIX


@pytest.fixture
def blobs(places: Places) -> Blobs:
    return Blobs(places.blobs)


def age(folder: Path, *digests: str, by: float = GRACE + 60) -> None:
    """Let blobs be as old as that."""
    then = time.time() - by
    for digest in digests:
        os.utime(folder / digest[:2] / digest, (then, then))


def image(digest: str) -> Part:
    return Part(kind="image", blob=digest, meta={"name": "i.png"})


def here(blobs: Blobs, *digests: str) -> list[bool]:
    return [blobs.keep(digest) for digest in digests]


async def test_what_any_message_or_draft_refers_to_stays(places: Places, blobs: Blobs):
    names = ["shown", "branch", "undone", "gone chat", "draft", "purged", "nobody"]
    digests = {name: blobs.put(name.encode()) for name in names}
    storage = StoreThread(blobs=blobs)
    store = await storage.open(
        lambda: open_store(places.database, places.state / "writers", face="test")
    )

    def fill() -> str:
        chat = store.conversations.create()
        for name in ("shown", "branch", "undone"):
            with store.db.transaction():
                leaf = store.tree.add(chat.id, None, "user", (image(digests[name]),))
                store.tree.set_active(chat.id, leaf)
        store.tree.delete(leaf)
        for name in ("gone chat", "purged"):
            chat = store.conversations.create()
            with store.db.transaction():
                store.tree.add(chat.id, None, "user", (image(digests[name]),))
            if name == "gone chat":
                store.conversations.delete(chat.id)
        return chat.id

    purged = await storage.call(fill)
    places.drafts.write_text(f'{{"c": {{"files": [{{"blob": "{digests["draft"]}"}}]}}}}')
    age(places.blobs, *digests.values())
    await storage.call(store.conversations.purge, purged)
    count = await storage.call(sweep, storage, places.drafts, now=True)
    await storage.close()
    assert count == 2
    assert {name for name in names if blobs.keep(digests[name])} == set(names[:5])
    for name in names[:5]:
        assert blobs.get(digests[name]) == name.encode()


async def test_nothing_is_deleted_where_not_everything_can_be_known(places: Places, blobs: Blobs):
    digest = blobs.put(b"alone")
    age(places.blobs, digest)
    storage = StoreThread(blobs=blobs)
    await storage.open(lambda: memory_store("test"))
    assert await storage.call(sweep, storage, places.drafts, now=True) == 0
    await storage.close()
    damaged = places.database.with_name(places.database.name + ".damaged-20260101-000000")
    places.state.mkdir(parents=True, exist_ok=True)
    for hindrance in (damaged, places.drafts):
        storage = StoreThread(blobs=blobs)
        await storage.open(
            lambda: open_store(places.database, places.state / "writers", face="test")
        )
        hindrance.mkdir()  # a draft that cannot be read, for one
        assert await storage.call(sweep, storage, places.drafts, now=True) == 0
        hindrance.rmdir()
        await storage.close()
    assert (places.blobs / digest[:2] / digest).is_file()


def test_only_old_ones_go_and_once_a_day(places: Places, blobs: Blobs):
    asked: list[int] = []

    def nothing() -> set[str]:
        asked.append(1)
        return set()

    assert blobs.sweep(nothing) == 0  # there is no folder yet
    old, young, again = (blobs.put(name) for name in (b"old", b"young", b"again"))
    assert blobs.sweep(nothing, now=True) == 0
    assert asked == []  # the database is left in peace as long as all are young
    age(places.blobs, old, again)
    left = places.blobs / old[:2] / f"{old}.0123456789abcdef{PART_SUFFIX}"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    blobs.put(b"again")
    assert blobs.sweep(nothing) == 0  # not due
    assert blobs.sweep(nothing, now=True) == 2
    assert here(blobs, old, young, again) == [False, True, True]
    assert not left.parent.exists()


def test_what_is_added_while_it_looks_stays(places: Places, blobs: Blobs):
    digest = blobs.put(b"x")
    age(places.blobs, digest)

    def somebody_attaches_it() -> set[str]:
        Blobs(places.blobs).put(b"x")
        return set()

    assert blobs.sweep(somebody_attaches_it, now=True) == 0
    assert blobs.get(digest) == b"x"


def test_who_is_adding_is_not_disturbed(places: Places, blobs: Blobs):
    digest = blobs.put(b"x")
    age(places.blobs, digest)
    file = os.open(places.blobs / ".lock", os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_SH)
    assert blobs.sweep(set, now=True) == 0
    os.close(file)
    assert blobs.sweep(set, now=True) == 1


def test_many_at_once_lose_nothing_that_is_put(places: Places, monkeypatch: pytest.MonkeyPatch):
    """Everything is old at once, but for what was put a moment ago."""
    monkeypatch.setattr(module, "GRACE", 5.0)
    over = threading.Event()
    folder = places.blobs

    def sweep_on() -> None:
        while not over.is_set():
            Blobs(folder).sweep(set, now=True)

    sweeper = threading.Thread(target=sweep_on)
    sweeper.start()
    try:
        mine = Blobs(folder)
        for number in range(120):
            data = str(number % 7).encode()
            digest = mine.put(data)
            assert mine.get(digest) == data
            age(folder, digest, by=60)
    finally:
        over.set()
        sweeper.join()


def test_a_disk_that_refuses_is_no_error(places: Places, blobs: Blobs, monkeypatch):
    digest = blobs.put(b"x")
    age(places.blobs, digest)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    for name in ("unlink", "touch", "glob"):
        with monkeypatch.context() as broken:
            broken.setattr(Path, name, refuse)
            assert blobs.sweep(set, now=True) == 0
    with monkeypatch.context() as broken:
        broken.setattr("fcntl.flock", refuse)
        assert blobs.put(b"x") == digest  # no locks on this disk: kept, and nothing is swept
        age(places.blobs, digest)
        assert blobs.sweep(set, now=True) == 0
    assert blobs.get(digest) == b"x"
    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", refuse)
        with pytest.raises(StoreError):
            blobs.put(b"y")
    assert [path.name for path in places.blobs.glob("??/*")] == [digest]
