import stat

import pytest
from msgspec.structs import replace

from llmchat.errors import NotFound
from llmchat.paths import Places
from llmchat.store.replies import Ending
from llmchat.store.store import Store
from llmchat.values import ChatSettings, Generation, Part, Sampling, Usage


def words(text):
    return (Part(kind="text", text=text),)


def exchange(store: Store, conversation: str, parent: str | None, question: str, answer: str):
    """A finished question and answer; their ids."""
    asked, (reply,) = store.writer.begin(conversation, parent, question=words(question))
    store.writer.finish([Ending(message=reply, parts=words(answer), status="complete")])
    return asked, reply


def texts(store: Store, conversation: str) -> list[str]:
    found = store.conversations.get(conversation)
    return [message.text for message in store.tree.branch(found.id, found.active_leaf)]


def test_words_and_reply_come_back_as_given(store, reopen):
    chat = store.conversations.create(settings=ChatSettings(model="m", sampling=Sampling(seed=7)))
    raw = "line\r\n\x1b[31mred\x00 \U0001f600 e\u0301 \u202e"
    _, reply = exchange(store, chat.id, None, raw, raw * 2)
    again = reopen()
    found = again.conversations.get(chat.id)
    assert found.settings == ChatSettings(model="m", sampling=Sampling(seed=7))
    question, answer = again.tree.branch(chat.id, found.active_leaf)
    assert (question.role, question.text) == ("user", raw)
    assert (answer.role, answer.text, answer.status) == ("assistant", raw * 2, "complete")
    assert answer.id == reply == found.active_leaf
    assert answer.parent == question.id


def test_files_are_private(store, places: Places):
    chat = store.conversations.create()
    exchange(store, chat.id, None, "a", "b")
    assert stat.S_IMODE(places.data.stat().st_mode) == 0o700
    for path in places.data.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_lone_surrogates_cannot_stop_a_message(store):
    chat = store.conversations.create()
    exchange(store, chat.id, None, "a\udcffb", "c")
    assert texts(store, chat.id) == ["a\ufffdb", "c"]


def test_a_streaming_reply_shows_its_pieces(store):
    chat = store.conversations.create()
    _, (reply,) = store.writer.begin(chat.id, None, question=words("hi"))
    store.writer.checkpoint([(reply, "thinking", "hm"), (reply, "text", "One")])
    store.writer.checkpoint([(reply, "text", " two")])
    growing = store.tree.get(reply)
    assert growing.status == "streaming"
    assert growing.parts == (Part(kind="thinking", text="hm"), Part(kind="text", text="One two"))
    assert store.db.one("SELECT count(*), max(length(text)) FROM piece") == (3, 4)
    store.writer.finish([Ending(message=reply, parts=words("One two three"), status="complete")])
    assert store.db.one("SELECT count(*) FROM piece") == (0,)
    assert store.tree.get(reply).text == "One two three"


def test_a_checkpoint_writes_small_rows_only(store):
    chat = store.conversations.create()
    _, (reply,) = store.writer.begin(chat.id, None, question=words("hi"))
    store.writer.checkpoint([(reply, "text", "\U0001f600" * 20_000)])
    (row,) = store.db.read("SELECT max(length(CAST(text AS BLOB))), count(*) FROM piece")
    assert row == (16 * 1024, 5)
    assert store.tree.get(reply).text == "\U0001f600" * 20_000


def test_how_a_reply_came_to_be_is_kept(store):
    chat = store.conversations.create()
    _, (reply,) = store.writer.begin(chat.id, None, question=words("hi"))
    made = Generation(model="m", seed=3, usage=Usage(prompt_tokens=4), finish="stop")
    store.writer.finish(
        [
            Ending(
                message=reply,
                parts=words("x"),
                status="complete",
                generation=made,
                tokens=(1, 2, 4294967295),
                vocab="v",
            )
        ]
    )
    assert store.tree.get(reply).generation == made
    assert store.writer.tokens([reply]) == {reply: ("v", (1, 2, 4294967295))}


def test_versions_are_siblings_in_order(store):
    chat = store.conversations.create()
    asked, first = exchange(store, chat.id, None, "q", "a1")
    _, (second, third) = store.writer.begin(chat.id, asked, n=2)
    for reply in (second, third):
        store.writer.finish([Ending(message=reply, parts=words(reply), status="complete")])
    assert store.tree.get(first).siblings == (first, second, third)
    assert store.conversations.get(chat.id).active_leaf == second
    # An edited first message is another root.
    other, below = exchange(store, chat.id, None, "q2", "a4")
    assert store.tree.get(other).siblings == (asked, other)
    assert store.tree.select(asked) == third
    assert texts(store, chat.id) == ["q", third]
    assert store.tree.select(other) == below


def test_deleting_a_message_takes_what_follows_and_comes_back(store):
    chat = store.conversations.create()
    _, a1 = exchange(store, chat.id, None, "q1", "a1")
    q2, _ = exchange(store, chat.id, a1, "q2", "a2")
    store.tree.delete(q2)
    assert texts(store, chat.id) == ["q1", "a1"]
    store.tree.undelete(q2)
    assert texts(store, chat.id) == ["q1", "a1", "q2", "a2"]
    # Undoing the outer deletion leaves an inner, older one alone.
    a3 = exchange(store, chat.id, a1, "q3", "a3")[1]
    store.tree.delete(a3)
    store.tree.delete(a1)
    assert texts(store, chat.id) == ["q1"]
    store.tree.undelete(a1)
    assert texts(store, chat.id) == ["q1", "a1", "q3"]


def test_only_what_was_deleted_comes_back_and_below_what_is_there(store):
    chat = store.conversations.create()
    q1, a1 = exchange(store, chat.id, None, "q1", "a1")
    _, other = exchange(store, chat.id, None, "q2", "a2")
    assert store.tree.undelete(a1) is False
    assert store.conversations.get(chat.id).active_leaf == other  # nothing else is shown for it
    store.tree.delete(a1)
    store.tree.delete(q1)
    with pytest.raises(NotFound, match="deleted too"):
        store.tree.undelete(a1)
    assert store.tree.undelete(q1) is True
    assert store.tree.undelete(a1) is True
    assert texts(store, chat.id) == ["q1", "a1"]


def test_finding_a_message_by_parts_of_its_id(store):
    chat = store.conversations.create()
    q1, a1 = exchange(store, chat.id, None, "q1", "a1")
    for text in (a1, f" {a1.lower()}\n", a1[-8:], a1[:26]):
        assert store.tree.find(text).id == a1
    with pytest.raises(NotFound, match="Several"):
        store.tree.find(a1[:6])  # the clock's part: both were written in one moment
    store.tree.delete(a1)
    assert store.tree.find(q1[:6]).id == q1
    assert store.tree.find(a1[-8:], deleted=True).id == a1
    for text in (a1, a1[-3:], "", "%" * 8, "nothing"):
        with pytest.raises(NotFound, match="no message"):
            store.tree.find(text)


def test_deleting_the_only_root_leaves_an_empty_conversation(store):
    chat = store.conversations.create()
    q1, _ = exchange(store, chat.id, None, "q1", "a1")
    store.tree.delete(q1)
    assert store.conversations.get(chat.id).active_leaf is None
    assert texts(store, chat.id) == []


def test_a_fork_is_a_copy_that_leads_its_own_life(store):
    chat = store.conversations.create(title="T", settings=ChatSettings(system="s"))
    _, a1 = exchange(store, chat.id, None, "q1", "a1")
    exchange(store, chat.id, a1, "q2", "a2")
    fork = store.conversations.get(store.tree.fork(a1, source="tui"))
    assert texts(store, fork.id) == ["q1", "a1"]
    assert fork.settings == ChatSettings(system="s")
    exchange(store, fork.id, fork.active_leaf, "other", "way")
    assert texts(store, chat.id) == ["q1", "a1", "q2", "a2"]
    assert texts(store, fork.id) == ["q1", "a1", "other", "way"]


def test_conversations_are_listed_by_use_not_by_the_clock(store, monkeypatch):
    first, second, piped = (
        store.conversations.create(title=name, source=source)
        for name, source in (("1", "tui"), ("2", "tui"), ("3", "cli"))
    )
    monkeypatch.setattr("time.time", lambda: -5.0)  # a clock set back before 1970
    exchange(store, first.id, None, "q", "a")
    assert [c.title for c in store.conversations.list()] == ["1", "2"]
    assert [c.title for c in store.conversations.list(include_cli=True)] == ["1", "3", "2"]
    store.conversations.pin(second.id, True)
    assert [c.title for c in store.conversations.list()] == ["2", "1"]
    last = store.conversations.last()
    assert last is not None
    assert last.id == first.id
    store.conversations.delete(first.id)
    assert [c.title for c in store.conversations.list()] == ["2"]
    assert [c.title for c in store.conversations.list(deleted=True)] == ["1"]
    store.conversations.undelete(first.id)
    assert store.conversations.get(piped.id).source == "cli"


def test_finding_by_parts_of_an_id_or_title(store):
    chat = store.conversations.create(title="Bread")
    other = store.conversations.create(title="bread 2")
    for text in (chat.id, chat.id.lower(), chat.id[-6:], "Bread"):
        assert store.conversations.find(text).id == chat.id
    with pytest.raises(NotFound, match="2 conversations"):
        store.conversations.find(chat.id[:6])
    with pytest.raises(NotFound):
        store.conversations.find("nothing")
    store.conversations.delete(other.id)
    assert store.conversations.find(chat.id[:6]).id == chat.id
    for text in (other.id, other.id[-8:], "bread 2"):
        assert store.conversations.find(text, deleted=True).id == other.id
    with pytest.raises(NotFound):
        store.conversations.find(chat.id, deleted=True)


def test_purging_leaves_nothing(store):
    chat = store.conversations.create(title="secret title")
    asked, _ = exchange(store, chat.id, None, "secret question", "secret answer")
    store.writer.begin(chat.id, asked)
    store.conversations.purge(chat.id)
    for table in ("conversation", "message", "part", "piece", "generation", "tokens"):
        assert store.db.one(f"SELECT count(*) FROM {table}") == (0,), table
    assert store.search("secret") == []
    store.db.write("INSERT INTO message_fts (message_fts) VALUES ('integrity-check')")


def test_what_is_not_there(store):
    chat = store.conversations.create()
    for call in (
        lambda: store.tree.get("x"),
        lambda: store.conversations.get("x"),
        lambda: store.conversations.rename("x", "y"),
        lambda: store.tree.branch(chat.id, "x"),
        lambda: store.writer.begin(chat.id, "x", question=words("q")),
    ):
        with pytest.raises(NotFound):
            call()
    assert store.db.one("SELECT count(*) FROM message") == (0,)


def test_a_reply_that_was_only_begun_leaves_nothing(store):
    chat = store.conversations.create()
    asked, first = exchange(store, chat.id, None, "one", "two")
    nothing = [Ending(message="", parts=(), status="complete", is_nothing=True)]
    _, begun = store.writer.begin(chat.id, asked, n=2)
    endings = [replace(nothing[0], message=reply) for reply in begun]
    assert store.writer.finish(endings, first) == []
    assert store.conversations.get(chat.id).active_leaf == first
    assert [m.id for m in store.tree.all(chat.id, deleted=True)] == [asked, first]
    _, (gone,) = store.writer.begin(chat.id, asked)
    store.tree.delete(first)
    assert store.writer.finish([replace(nothing[0], message=gone)], first) == []
    assert store.conversations.get(chat.id).active_leaf == asked


def test_a_begun_reply_that_others_follow_or_marked_stays(store):
    chat = store.conversations.create()
    asked, (followed,) = store.writer.begin(chat.id, None, question=words("one"))
    store.writer.begin(chat.id, followed, question=words("below"))
    _, (marked,) = store.writer.begin(chat.id, asked)
    store.tree.delete(marked)
    endings = [
        Ending(message=reply, parts=(), status="complete", is_nothing=True)
        for reply in (followed, marked)
    ]
    assert [reply.id for reply in store.writer.finish(endings)] == [followed, marked]
    store.tree.undelete(marked)
    assert store.tree.get(marked).status == "complete"
