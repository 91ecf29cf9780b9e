"""A disk that takes nothing: the chat goes on in memory, and is saved when there is room again.

SQLite itself says that it is full: `max_page_count` makes it so without a disk of its own; where
mounting is permitted a real one is filled as well.
"""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from llmchat.core.runtime import Runtime
from llmchat.errors import StoreError

PLENTY = 1_000_000_000


async def fill(rt: Runtime) -> None:
    """From now on the file cannot grow by a page."""

    def limit() -> None:
        db = rt._storage.store.db
        pages = db.one("PRAGMA page_count")
        assert pages is not None
        db.one(f"PRAGMA max_page_count = {int(str(pages[0]))}")

    await rt._storage.call(limit)


async def make_room(rt: Runtime) -> None:
    await rt._storage.call(rt._storage.store.db.one, f"PRAGMA max_page_count = {PLENTY}")


LONG = "word " * 20_000
"""More than what free pages inside the file could take."""


async def say(rt: Runtime, chat: str, words: str) -> str:
    (reply,) = await (await rt.chats.send(chat, f"{LONG}{words}\n#!say={words} heard")).wait()
    return reply.text


async def texts(rt: Runtime, chat: str) -> list[str]:
    return [m.text.removeprefix(LONG).split("\n")[0] for m in await rt.chats.branch(chat)]


async def test_a_chat_goes_on_while_the_disk_is_full_and_is_saved_when_there_is_room(
    places, open_runtime
):
    rt = await open_runtime("rate=0;n_ctx=1000000")
    chat = await rt.chats.create()
    await say(rt, chat.id, "one")
    await fill(rt)
    assert await say(rt, chat.id, "two") == "two heard"
    assert await say(rt, chat.id, "three") == "three heard"
    assert rt.chats.unsaved == (chat.id,)
    assert any("not saved" in n or "unsaved" in n for n in rt.notices)
    expected = ["one", "one heard", "two", "two heard", "three", "three heard"]
    assert await texts(rt, chat.id) == expected
    assert (await rt.chats.list())[0].id == chat.id
    assert [hit.conversation for hit in await rt.chats.search("heard")] == [chat.id] * 6
    assert not await rt.chats.changed()
    await make_room(rt)
    assert await rt.chats.changed()
    assert rt.chats.unsaved == ()
    again = await open_runtime("rate=0;n_ctx=1000000")
    assert await texts(again, chat.id) == expected
    assert [hit.conversation for hit in await again.chats.search("three")] == [chat.id] * 2
    branch = await again.chats.branch(chat.id)
    assert all(message.status == "complete" for message in branch)
    assert branch[3].generation is not None


async def test_a_disk_that_fills_up_in_the_middle_of_a_reply_costs_none_of_its_words(
    open_runtime, monkeypatch
):
    monkeypatch.setattr("llmchat.core.turn.CHECKPOINT_SECONDS", 0.02)
    rt = await open_runtime("rate=2000;n_ctx=1000000")
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "go on\n#!words=1500")
    await fill(rt)
    (reply,) = await turn.wait()
    assert len(reply.text.split()) == 1500
    await make_room(rt)
    await rt.chats.changed()
    again = await open_runtime("")
    (_, kept) = await again.chats.branch(chat.id)
    assert kept.text == reply.text
    assert kept.status == "complete"


async def test_a_reply_stopped_before_its_first_word_is_gone_when_there_is_room(open_runtime):
    rt = await open_runtime("load=300;n_ctx=1000000")
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "precious")
    await fill(rt)
    await rt.chats.rename(chat.id, LONG)
    assert rt.chats.unsaved == (chat.id,)
    await rt.chats.cancel(turn.id)
    assert await texts(rt, chat.id) == ["precious"]
    await make_room(rt)
    assert await rt.chats.changed()
    assert rt.chats.unsaved == ()
    again = await open_runtime("")
    assert [(m.text, m.status) for m in await again.chats.branch(chat.id)] == [
        ("precious", "complete")
    ]
    tree = await again._storage.call(again._storage.store.tree.all, chat.id, deleted=True)
    assert len(tree) == 1


async def test_what_others_did_meanwhile_stays(open_runtime):
    rt = await open_runtime("rate=0;n_ctx=1000000")
    chat = await rt.chats.create(title="as it was")
    await say(rt, chat.id, "one")
    await fill(rt)
    await say(rt, chat.id, "mine")
    other = await open_runtime("rate=0;n_ctx=1000000")  # a file has room for who sets no limit
    await say(other, chat.id, "theirs")
    await other.chats.rename(chat.id, "another name")
    await make_room(rt)
    await rt.chats.changed()
    assert (await other.chats.get(chat.id)).title == "another name"
    assert await texts(other, chat.id) == ["one", "one heard", "mine", "mine heard"]
    whole = json.loads("".join([piece async for piece in rt.chats.export([chat.id], kind="json")]))
    said = [part["text"] for m in whole["conversations"][0]["messages"] for part in m["parts"]]
    assert sum("theirs heard" in text for text in said) == 2  # the question asks for it


async def test_new_chats_edits_deletions_and_forks_wait_for_room_too(open_runtime):
    rt = await open_runtime("rate=0;n_ctx=1000000")
    old = await rt.chats.create(title="old")
    await say(rt, old.id, "one")
    await fill(rt)
    await say(rt, old.id, "two")
    fork = await rt.chats.fork((await rt.chats.branch(old.id))[1].id)
    last = (await rt.chats.branch(old.id))[-1]
    await rt.chats.delete_message(last.id)
    await rt.chats.pin(old.id, True)
    assert fork.id in rt.chats.unsaved
    await make_room(rt)
    await rt.chats.changed()
    again = await open_runtime("")
    assert await texts(again, fork.id) == ["one", "one heard"]
    assert await texts(again, old.id) == ["one", "one heard", "two"]
    assert (await again.chats.get(old.id)).pinned
    await again.chats.undelete_message(last.id)
    assert await texts(again, old.id) == ["one", "one heard", "two", "two heard"]


async def test_what_is_removed_for_good_while_it_waits_for_room_does_not_come_back(open_runtime):
    rt = await open_runtime("rate=0;n_ctx=1000000")
    old = await rt.chats.create()
    await say(rt, old.id, "one")
    await fill(rt)
    await say(rt, old.id, "two")
    await make_room(rt)
    await rt.chats.purge(old.id)
    assert rt.chats.unsaved == ()
    assert not await rt.chats.changed()
    assert await rt.chats.list() == []


async def test_what_is_never_saved_is_kept_as_a_file_that_can_be_imported(
    places, open_runtime, tmp_path
):
    rt = await open_runtime("rate=0;n_ctx=1000000")
    chat = await rt.chats.create()
    await say(rt, chat.id, "one")
    await fill(rt)
    await say(rt, chat.id, "two")
    await rt.__aexit__(None, None, None)
    (file,) = places.data.glob("llmchat-unsaved-*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert any(str(file) in notice for notice in rt.notices)
    again = await open_runtime("")
    assert await texts(again, chat.id) == ["one", "one heard"]
    done = await again.chats.import_(file.read_bytes())
    (imported,) = done.conversations
    assert await texts(again, imported.conversation.id) == ["one", "one heard", "two", "two heard"]


@pytest.fixture
def small_disk(places) -> Iterator[Path]:
    """The conversations' folder as a disk of 4 MB, mounted where that is permitted."""
    places.data.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(places.data)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield places.data
    subprocess.run(["umount", "-l", str(places.data)], check=True)


async def test_a_real_disk_filled_while_chatting(small_disk, open_runtime):
    rt = await open_runtime("rate=0;n_ctx=1000000")
    chat = await rt.chats.create()
    await say(rt, chat.id, "one")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    await say(rt, chat.id, "two")
    assert rt.chats.unsaved == (chat.id,)
    filler.unlink()
    async with asyncio.timeout(60):
        while rt.chats.unsaved:
            await rt.chats.changed()
    again = await open_runtime("")
    assert await texts(again, chat.id) == ["one", "one heard", "two", "two heard"]


async def test_a_disk_that_is_full_at_the_start_shows_what_there_is_and_goes_on(
    small_disk, places, open_runtime
):
    first = await open_runtime("rate=0;n_ctx=1000000")
    chat = await first.chats.create()
    await say(first, chat.id, "one")
    await first.__aexit__(None, None, None)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    rt = await open_runtime("rate=0;n_ctx=1000000")
    assert any("full" in notice for notice in rt.news())
    await say(rt, chat.id, "two")
    assert await texts(rt, chat.id) == ["one", "one heard", "two", "two heard"]
    await rt.__aexit__(None, None, None)
    (rescued,) = places.state.glob("llmchat-unsaved-*.json")
    filler.unlink()
    again = await open_runtime("")
    done = await again.chats.import_(rescued.read_bytes())
    (copy,) = done.conversations
    assert await texts(again, copy.conversation.id) == ["one", "one heard", "two", "two heard"]


async def test_a_store_that_is_only_read_refuses_with_its_reason(places, open_runtime):
    rt = await open_runtime("rate=0")
    chat = await rt.chats.create()
    await rt._storage.call(rt._storage.store.db.write, "INSERT INTO migration VALUES ('later', 0)")
    again = await open_runtime("rate=0")
    with pytest.raises(StoreError) as refusal:
        await again.chats.send(chat.id, "words")
    assert refusal.value.key == "store.newer"
