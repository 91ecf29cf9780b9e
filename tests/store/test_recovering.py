"""Words out of damaged files: everything of a whole one, and nothing but our own words of any."""

import random
import shutil
import sys
from pathlib import Path

import pytest

from llmchat.store.carving import Carver, Damaged, record, varint
from llmchat.store.recovering import recover
from llmchat.store.replies import Ending
from llmchat.store.store import Store
from llmchat.store.whole import read_whole
from llmchat.values import ChatSettings, Generation, MessageStatus, Part, SavedConversation
from tests.store.test_faults import open_at, words


def saved(store: Store) -> list[SavedConversation]:
    found = store.conversations.list(include_cli=True)
    return sorted(
        (read_whole(store.db, store.tree, conversation) for conversation in found),
        key=lambda conversation: conversation.id,
    )


def fill(store: Store) -> None:
    """Short and long rows, all kinds of parts, branches, marks, a reply that is being written."""
    for number, text in enumerate(
        ["plain", "émoji 🧑‍🚀 \x00 NUL", "x" * 5_000_000, "", "y" * 4000]
    ):
        chat = store.conversations.create(
            title=f"chat {number} ü", settings=ChatSettings(system="be brief", max_tokens=number)
        )
        question, (reply, other) = store.writer.begin(chat.id, None, question=words(text), n=2)
        store.writer.checkpoint([(reply, "text", "never kept apart")])
        made = Generation(model="m", identity="i", seed=2**63, finish="stop")
        parts = (Part(kind="thinking", text="hm"), Part(kind="text", text=text[::-1]))
        ends: list[tuple[str, MessageStatus]] = [(reply, "complete"), (other, "failed")]
        for message, status in ends:
            ending = Ending(
                message=message, parts=parts, status=status, generation=made,
                error="why", tokens=tuple(range(number * 3000)), vocab="v",
            )  # fmt: skip
            store.writer.finish([ending])
        assert question is not None
        if number == 1:
            store.tree.delete(other)
    _, (running,) = store.writer.begin(chat.id, None, question=words("and now?"))
    store.writer.checkpoint([(running, "thinking", "well"), (running, "text", "it begins")])
    store.writer.checkpoint([(running, "text", " and goes on")])


@pytest.mark.parametrize("in_the_log", [False, True])
def test_a_whole_file_is_carved_whole(tmp_path, in_the_log):
    store = open_at(tmp_path / "data")
    fill(store)
    path = tmp_path / "data" / "chats.db"
    if not in_the_log:
        store.db.read("PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.with_name("chats.db-wal").stat().st_size == 0
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    shutil.copy(path.with_name("chats.db-wal"), copy.with_name("copy.db-wal"))
    expected = saved(store)
    store.close()
    assert sorted(recover(copy), key=lambda conversation: conversation.id) == expected


def test_what_was_removed_for_good_does_not_come_back(tmp_path):
    store = open_at(tmp_path / "data")
    for _ in range(3):
        fill(store)
    kept, *gone = [conversation.id for conversation in store.conversations.list()]
    for id_ in gone:
        store.conversations.purge(id_)
    store.close()
    assert [c.id for c in recover(tmp_path / "data" / "chats.db")] == [kept]


def test_damage_anywhere_is_no_error_and_costs_what_it_hit(tmp_path):
    store = open_at(tmp_path / "data")
    chat, leaf = store.conversations.create(title="t"), None
    for number in range(60):
        _, (leaf,) = store.writer.begin(chat.id, leaf, question=words(f"{number} " * 300))
        store.writer.finish([Ending(message=leaf, parts=words("b " * 900), status="complete")])
    store.close()
    path = tmp_path / "data" / "chats.db"
    whole = path.read_bytes()
    seed = random.Random(20260)
    counts = []
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(seed.choice([1, 10, 200])):
            data[seed.randrange(len(data))] = seed.randrange(256)
        if seed.random() < 0.3:
            del data[seed.randrange(len(data)) :]
        path.write_bytes(data)
        counts.append(sum(len(c.messages) for c in recover(path)))
    assert max(counts) == 120
    share = sum(counts) / len(counts) / 120
    sys.stdout.write(f"150 damaged files: {share:.1%} of the messages read, on average\n")


def test_a_file_of_leaf_pages_that_point_anywhere(tmp_path):
    seed = random.Random(7)
    path = tmp_path / "hostile.db"
    for _ in range(100):
        pages = [
            bytes([0x0D, 0, 0, 0, seed.randrange(256), 0, 0, 0]) + seed.randbytes(4088)
            for _ in range(6)
        ]
        path.write_bytes(b"".join(pages))
        with Carver(path) as carver:
            for _rowid, values in carver.rows():
                assert isinstance(values, tuple)
        assert recover(path) == []


@pytest.mark.parametrize(
    "payload", [b"", b"\x02\x0a", b"\x02\x01", b"\x05\x01", b"\x02\x81", b"\x02\x17ab"]
)
def test_records_that_are_none(payload):
    with pytest.raises(Damaged):
        record(payload)


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"\x00", 0), (b"\x7f", 127), (b"\x81\x00", 128), (b"\xff" * 9, -1)],
)
def test_varints(data, value):
    assert varint(data, 0) == (value, len(data))


def test_a_folder_or_nothing_is_the_callers_error(tmp_path: Path):
    with pytest.raises(OSError, match="directory"):
        recover(tmp_path)
