import asyncio

import pytest

from llmchat.core.turn import Turn
from llmchat.errors import NotFound, UsageError, WorkerDied
from llmchat.values import ChatSettings, Message, Part, Sampling
from tests.core.test_turn import wait_for_text


async def said(rt, chat, words, **more):
    """A finished turn; its first reply."""
    return (await (await rt.chats.send(chat.id, words, **more)).wait())[0]


async def texts(rt, chat):
    return [message.text.split("\n#!")[0] for message in await rt.chats.branch(chat.id)]


async def test_regenerate_adds_versions_and_shows_the_new_one(rt):
    chat = await rt.chats.create()
    first = await said(rt, chat, "q\n#!say=a")
    turn = await rt.chats.regenerate(first.id, 3)
    replies = await turn.wait()
    assert turn.question is None
    assert [reply.text for reply in replies] == ["a", "(2) a", "(3) a"]
    siblings = (await rt.chats.message(first.id)).siblings
    assert siblings == (first.id, *(reply.id for reply in replies))
    assert (await rt.chats.branch(chat.id))[-1].id == replies[0].id
    shown = await rt.chats.select(first.id)
    assert shown[-1].id == first.id
    assert (await rt.chats.branch(chat.id))[-1].id == first.id


async def test_each_of_several_replies_has_its_own_text_in_the_events(rt):
    chat = await rt.chats.create()
    first = await said(rt, chat, "q\n#!words=5")
    turn = await rt.chats.regenerate(first.id, 2)
    texts_by_reply: dict[str, str] = {}
    async for event in turn.events():
        if hasattr(event, "text"):
            texts_by_reply[event.message] = texts_by_reply.get(event.message, "") + event.text
    assert texts_by_reply == {reply.id: reply.text for reply in turn.replies}
    assert len(texts_by_reply) == 2


async def test_a_question_is_answered_several_times_at_once(rt):
    chat = await rt.chats.create()
    replies = await (await rt.chats.send(chat.id, "q\n#!say=Hi", n=3)).wait()
    assert [reply.text for reply in replies] == ["Hi", "(2) Hi", "(3) Hi"]
    tree = await rt.chats.tree(chat.id)
    assert [message.role for message in tree] == ["user", *["assistant"] * 3]
    assert {message.parent for message in tree[1:]} == {tree[0].id}
    assert [message.id for message in await rt.chats.branch(chat.id)] == [tree[0].id, tree[1].id]
    for count in (0, 65):
        with pytest.raises(UsageError, match="1 to 64"):
            await rt.chats.send(chat.id, "again", n=count)
    assert len(await rt.chats.tree(chat.id)) == 4  # refused before anything was saved


async def test_what_a_name_means(rt):
    chat = await rt.chats.create(title="Bread")
    with pytest.raises(NotFound):
        await rt.chats.meant("Bread")  # there is nothing in it
    (reply,) = await (await rt.chats.send(chat.id, "hi")).wait()
    assert (await rt.chats.meant("Bread")).id == reply.id
    assert (await rt.chats.meant(chat.id)).id == reply.id
    assert (await rt.chats.meant(reply.parent)).role == "user"
    with pytest.raises(NotFound, match="no message"):
        await rt.chats.meant("nothing")


async def test_an_edited_question_is_another_branch(rt):
    chat = await rt.chats.create()
    await said(rt, chat, "one\n#!say=1")
    await said(rt, chat, "two\n#!say=2")
    question = (await rt.chats.branch(chat.id))[2]
    turn = await rt.chats.edit(question.id, "three\n#!say=3")
    assert isinstance(turn, Turn)
    await turn.wait()
    assert await texts(rt, chat) == ["one", "1", "three", "3"]
    await rt.chats.select(question.id)
    assert await texts(rt, chat) == ["one", "1", "two", "2"]
    root = (await rt.chats.branch(chat.id))[0]
    await (await rt.chats.edit(root.id, "other\n#!say=x")).wait()
    assert await texts(rt, chat) == ["other", "x"]


async def test_an_edited_reply_is_a_version_and_may_go_on(rt):
    chat = await rt.chats.create()
    reply = await said(rt, chat, "q\n#!say=wrong")
    edited = await rt.chats.edit(reply.id, "right", rerun=False)
    assert isinstance(edited, Message)
    assert (edited.role, edited.text, edited.generation) == ("assistant", "right", None)
    assert await texts(rt, chat) == ["q", "right"]
    (longer,) = await (await rt.chats.continue_(edited.id)).wait()
    assert longer.text == "rightwrong"
    assert longer.siblings == (reply.id, edited.id, longer.id)
    (again,) = await (await rt.chats.edit(reply.id, "left ")).wait()
    assert again.text == "left wrong"


async def test_a_reply_that_went_on_has_the_tokens_of_both_parts(rt):
    chat = await rt.chats.create()
    reply = await said(rt, chat, "q\n#!say=one two")
    (longer,) = await (await rt.chats.continue_(reply.id)).wait()
    writer = rt._storage.store.writer
    first = writer.tokens([reply.id])[reply.id]
    both = writer.tokens([longer.id])[longer.id]
    assert both == (first[0], first[1] * 2)
    (edited,) = await (await rt.chats.edit(reply.id, "other ")).wait()
    assert writer.tokens([edited.id]) == {}


async def test_only_a_reply_can_go_on(rt):
    chat = await rt.chats.create()
    await said(rt, chat, "q")
    question = (await rt.chats.branch(chat.id))[0]
    with pytest.raises(UsageError):
        await rt.chats.continue_(question.id)
    for words in ("", " \n", ()):
        with pytest.raises(UsageError):
            await rt.chats.send(chat.id, words)


async def test_forks_and_deletions(rt):
    chat = await rt.chats.create()
    reply = await said(rt, chat, "one\n#!say=1")
    await said(rt, chat, "two\n#!say=2")
    fork = await rt.chats.fork(reply.id)
    await said(rt, fork, "else\n#!say=e")
    assert await texts(rt, fork) == ["one", "1", "else", "e"]
    assert await texts(rt, chat) == ["one", "1", "two", "2"]
    await rt.chats.delete_message(reply.id)
    assert await texts(rt, chat) == ["one"]
    await rt.chats.undelete_message(reply.id)
    assert await texts(rt, chat) == ["one", "1", "two", "2"]


async def test_deleting_what_is_being_written_stops_it(rt):
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "q\n#!words=5000;rate=100")
    await rt.chats.delete_message(turn.replies[0].id)
    async with asyncio.timeout(60):
        await turn.ended()
    assert await texts(rt, chat) == ["q"]
    other = await rt.chats.create()
    turn = await rt.chats.send(other.id, "q\n#!words=5000;rate=100")
    await rt.chats.delete(other.id)
    async with asyncio.timeout(60):
        await turn.ended()
    assert [c.id for c in await rt.chats.list(deleted=True)] == [other.id]


async def test_a_message_sent_while_another_is_answered_is_a_sibling(rt, open_runtime):
    chat = await rt.chats.create()
    first = await rt.chats.send(chat.id, "one\n#!words=100000;rate=100")
    other = await open_runtime()
    turn = await other.chats.send(chat.id, "two\n#!say=2")
    await wait_for_text(first)  # stopped before that, it would leave no reply
    await rt.chats.cancel(first.id)
    (second,) = await turn.wait()
    await first.wait()
    one, two = first.question, await rt.chats.message(second.parent)
    assert one.parent is two.parent is None
    assert two.siblings == (one.id, two.id)
    assert (await rt.chats.branch(chat.id, first.replies[0].id))[-1].status == "complete"
    assert await rt.chats.changed()
    assert not await rt.chats.changed()


async def test_several_turns_at_once_do_not_mix(rt):
    chats = [await rt.chats.create() for _ in range(4)]
    turns = [
        await rt.chats.send(chat.id, f"q\n#!say={'x' * (n + 1)}") for n, chat in enumerate(chats)
    ]
    assert {turn.conversation for turn in rt.chats.turns()} <= {chat.id for chat in chats}
    replies = [await turn.wait() for turn in turns]
    assert [reply.text for (reply,) in replies] == ["x", "xx", "xxx", "xxxx"]


async def test_a_caller_who_stops_waiting_stops_nothing(rt):
    chat = await rt.chats.create()
    waiting = asyncio.create_task(rt.chats.send(chat.id, "q\n#!say=a"))
    await asyncio.sleep(0)
    waiting.cancel()
    (turn,) = await asyncio.gather(*rt.chats._starting)
    await turn.wait()
    assert await texts(rt, chat) == ["q", "a"]


async def test_a_failed_reply_between_questions_does_not_reach_the_model(rt):
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "one\n#!die=SIGKILL;at=first")
    with pytest.raises(WorkerDied):
        await turn.wait()
    reply = await said(rt, chat, "two")
    assert reply.status == "complete"
    assert reply.generation.left_out is None


async def test_search_finds_every_branch_and_title(rt):
    chat = await rt.chats.create(title="Bread recipes")
    reply = await said(rt, chat, "how\n#!say=Knead the Sourdough gently")
    await (await rt.chats.regenerate(reply.id)).wait()
    hits = await rt.chats.search("sourdough gent")
    both = [hit.message for hit in hits if hit.role == "assistant"]
    assert len(set(both)) == 2  # versions of the reply, though they say the same
    assert {hit.message for hit in hits} >= {reply.id}
    assert "\x01Sourdough\x02" in hits[0].snippet
    (title, *_) = await rt.chats.search("bread")
    assert (title.message, title.conversation) == (None, chat.id)
    for words in ('"', "AND OR", "NEAR(", "-", "*", "a:b", "\0", "'; DROP TABLE"):
        await rt.chats.search(words)
    await rt.chats.delete(chat.id)
    assert await rt.chats.search("sourdough") == []


async def test_settings_say_where_they_come_from(open_runtime, places, model_path):
    places.config.mkdir(parents=True)
    places.config_file.write_text(
        f"""[sampling]
temperature = 0.1
top_k = 10
min_p = 0.2
[models."{model_path}"]
sampling.top_k = 20
system = "per model"
"""
    )
    rt = await open_runtime()
    chat = await rt.chats.create(settings=ChatSettings(sampling=Sampling(min_p=0.3)))
    once = ChatSettings(sampling=Sampling(top_p=0.4))
    found = await rt.chats.resolved(chat.id, once)
    set_here = Sampling(temperature=0.1, top_k=20, min_p=0.3, top_p=0.4)
    for name in ("temperature", "top_k", "min_p", "top_p"):
        assert getattr(found.values.sampling, name) == getattr(set_here, name)
    assert found.values.system == "per model"
    assert found.values.sampling.repeat_penalty == 1.0
    expected = {
        "sampling.temperature": "config.toml",
        "sampling.top_k": "per-model",
        "sampling.min_p": "conversation",
        "sampling.top_p": "message",
        "sampling.repeat_penalty": "llama.cpp",
    }
    assert expected.items() <= found.sources.items()


async def test_counting_needs_a_loaded_model(open_runtime):
    rt = await open_runtime("rate=0;n_ctx=500")
    chat = await rt.chats.create()
    assert await rt.chats.count(chat.id, "draft") is None
    turn = await rt.chats.send(chat.id, "one two three\n#!words=40;rate=100")
    async for _ in turn.events():
        use = await rt.chats.count(chat.id, "a draft of six words more")
        if use is not None:
            assert use.limit == 500
            assert use.used > 6
    await turn.wait()


async def test_attached_text_is_sent_with_its_name(rt):
    chat = await rt.chats.create()
    parts = [
        Part(kind="file", text="print(1)\n```", meta={"name": "a.py"}),
        Part(kind="text", text="what is this?"),
    ]
    reply = await said(rt, chat, parts)
    assert reply.status == "complete"
    question = (await rt.chats.branch(chat.id))[0]
    assert question.parts == tuple(parts)
    with pytest.raises(UsageError):
        await rt.chats.send(chat.id, [Part(kind="image", blob="ab")])


async def test_what_is_not_there(rt):
    chat = await rt.chats.create()
    for call in (
        rt.chats.get("x"),
        rt.chats.send("x", "words"),
        rt.chats.send(chat.id, "words", parent="x"),
        rt.chats.regenerate("x"),
        rt.chats.fork("x"),
    ):
        with pytest.raises(NotFound):
            await call
