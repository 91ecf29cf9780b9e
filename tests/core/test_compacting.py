"""Compaction: a branch with a summary, the originals untouched, and nothing at all on a failure."""

import asyncio
import contextlib

import pytest

from llmchat.core.compacting import Compaction, split
from llmchat.core.events import TextAdded, TurnFailed, TurnFinished
from llmchat.errors import GenerationFailed, Interrupted, LlmchatError, UsageError, WorkerDied
from llmchat.values import Message, Part


async def talked(rt, rounds=4):
    chat = await rt.chats.create()
    for number in range(rounds):
        await (await rt.chats.send(chat.id, f"question {number}\n#!say=answer {number}")).wait()
    return chat


async def texts(rt, chat):
    return [message.text.split("\n#!")[0] for message in await rt.chats.branch(chat.id)]


async def everything(rt, chat):
    return "".join([piece async for piece in rt.chats.export([chat.id], kind="json")])


async def test_the_older_part_becomes_a_summary_and_the_originals_stay(open_runtime):
    rt = await open_runtime("rate=0;say=It was about numbers.")
    chat = await talked(rt)
    before = await rt.chats.branch(chat.id)
    work = await rt.chats.compact(chat.id)
    assert isinstance(work, Compaction)
    assert work in rt.chats.turns(chat.id)
    (summary,) = await work.wait()
    events = [event async for event in work.events()]
    assert "".join(e.text for e in events if isinstance(e, TextAdded)) == summary.text
    assert isinstance(events[-1], TurnFinished)
    branch = await rt.chats.branch(chat.id)
    assert [message.role for message in branch] == ["system", *("user", "assistant") * 2]
    assert branch[0].text == "It was about numbers."
    assert branch[0].parts[0].meta["summary_of"].split() == [one.id for one in before[:4]]
    assert branch[0].siblings == (before[0].id, summary.id)
    assert [one.parts for one in branch[1:]] == [one.parts for one in before[4:]]
    assert branch[-1].generation == before[-1].generation
    # The other version is the old branch, whole.
    assert [one.id for one in await rt.chats.select(before[0].id)] == [one.id for one in before]


async def test_the_next_question_is_asked_with_the_summary(open_runtime):
    rt = await open_runtime("rate=0;say=Numbers.")
    chat = await talked(rt)
    await (await rt.chats.compact(chat.id, keep=1)).wait()
    (reply,) = await (await rt.chats.send(chat.id, "and now?\n#!say=on")).wait()
    assert (await texts(rt, chat))[-3:] == ["answer 3", "and now?", "on"]
    # Again: the summary is summed up with the rest.
    (second,) = await (await rt.chats.compact(chat.id, keep=1)).wait()
    assert len(second.parts[0].meta["summary_of"].split()) == 3
    assert len(second.siblings) == 3
    assert reply.generation.left_out is None


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("fail=overloaded", LlmchatError),
        ("die=SIGKILL;at=read", WorkerDied),
        ("die=SIGSEGV;at=reply;words=50", WorkerDied),
        (r"say=\n", GenerationFailed),
        ("load_fail=1", LlmchatError),
    ],
)
async def test_a_failure_leaves_everything_as_it_was(open_runtime, script, error):
    good = await open_runtime("rate=0")
    chat = await talked(good, 3)
    await good.__aexit__(None, None, None)
    bad = await open_runtime(f"rate=0;{script}")
    before = await everything(bad, chat)
    work = await bad.chats.compact(chat.id)
    with pytest.raises(error):
        await work.wait()
    assert await everything(bad, chat) == before
    assert isinstance([event async for event in work.events()][-1], TurnFailed)


async def test_stopping_it_leaves_everything_as_it_was(open_runtime):
    rt = await open_runtime("rate=50;words=500")
    chat = await rt.chats.create()
    for number in range(3):
        await (await rt.chats.send(chat.id, f"{number}\n#!say=ok;rate=0")).wait()
    before = await everything(rt, chat)
    work = await rt.chats.compact(chat.id)
    async with asyncio.timeout(60):
        async with contextlib.aclosing(work.events()) as events:
            async for event in events:
                if isinstance(event, TextAdded):
                    break
    await rt.chats.cancel(work.id)
    assert isinstance(work.error, Interrupted)
    assert await everything(rt, chat) == before
    assert rt.chats.turns() == []


async def test_what_was_said_meanwhile_is_kept(open_runtime):
    rt = await open_runtime("rate=0;say=Numbers.")
    chat = await talked(rt)
    work = await rt.chats.compact(chat.id)
    turn = await rt.chats.send(chat.id, "quick\n#!say=yes")
    await turn.wait()
    with contextlib.suppress(UsageError):  # the reply was being written at that moment
        await work.wait()
        assert (await texts(rt, chat))[-2:] == ["quick", "yes"]
    await rt.chats.select(turn.question.id)
    assert "quick" in await texts(rt, chat)


async def test_an_older_part_that_does_not_fit_is_summed_up_in_portions(open_runtime):
    rt = await open_runtime("rate=0;n_ctx=200;say=Short.")
    chat = await rt.chats.create()
    for number in range(6):
        await (await rt.chats.send(chat.id, f"{number} " + "word " * 30)).wait()
    await (await rt.chats.send(chat.id, "x" * 30)).wait()
    (summary,) = await (await rt.chats.compact(chat.id, keep=1)).wait()
    assert summary.text == "Short."
    assert len(await rt.chats.branch(chat.id)) == 3


async def test_a_summary_has_versions_and_each_keeps_what_follows(open_runtime):
    rt = await open_runtime("rate=0;say=Numbers.")
    chat = await talked(rt)
    (summary,) = await (await rt.chats.compact(chat.id)).wait()
    before = await rt.chats.branch(chat.id)
    for rerun in (True, False):  # nobody answers a summary
        changed = await rt.chats.edit(summary.id, f"Mine {rerun}.", rerun=rerun)
        assert isinstance(changed, Message)
        assert changed.parts[0].meta == summary.parts[0].meta
        assert len(await texts(rt, chat)) == len(before)
        assert (await texts(rt, chat))[0] == f"Mine {rerun}."
    assert [one.generation for one in (await rt.chats.branch(chat.id))[1:]] == [
        one.generation for one in before[1:]
    ]
    assert [one.id for one in await rt.chats.select(summary.id)] == [one.id for one in before]
    # From a branch that is not shown, too.
    await rt.chats.select(changed.id)
    again = await rt.chats.edit(summary.id, "Other.")
    assert (await texts(rt, chat))[1:] == [one.text.split("\n#!")[0] for one in before[1:]]
    (reply,) = await (await rt.chats.send(chat.id, "on?\n#!say=on")).wait()
    assert (await rt.chats.branch(chat.id))[0].id == again.id
    with pytest.raises(UsageError):
        await rt.chats.edit(summary.id, " ")
    turn = await rt.chats.send(chat.id, "go\n#!words=500;rate=50")
    with pytest.raises(UsageError, match="being written"):
        await rt.chats.edit(again.id, "No.")
    await rt.chats.cancel(turn.id)
    assert reply.text == "on"


async def test_a_turn_that_a_compaction_kept_is_found_once(open_runtime):
    rt = await open_runtime("rate=0;say=Numbers.")
    chat = await talked(rt)
    await (await rt.chats.send(chat.id, "question 3\n#!say=answer 3")).wait()  # said twice
    original = await rt.chats.branch(chat.id)
    before = [hit.snippet for hit in await rt.chats.search("answer")]
    await (await rt.chats.compact(chat.id, keep=2)).wait()
    (summary, *kept) = await rt.chats.branch(chat.id)
    await rt.chats.edit(summary.id, "Numbers again.")
    kept = (await rt.chats.branch(chat.id))[1:]
    hits = await rt.chats.search("answer")
    assert [hit.snippet for hit in hits] == before
    newest = [one.id for one in reversed(kept)]
    assert [hit.message for hit in hits] == [*newest, *(m.id for m in reversed(original[:6]))]
    for limit in range(1, 9):
        assert await rt.chats.search("answer", limit=limit) == hits[:limit]
    # Said once more on the old branch: three times there, twice on the new ones.
    await rt.chats.select(original[-1].id)
    await (await rt.chats.send(chat.id, "question 3\n#!say=answer 3")).wait()
    assert len(await rt.chats.search("answer")) == len(before) + 2


async def test_nothing_to_sum_up_and_a_reply_under_way(rt):
    chat = await talked(rt, 1)
    with pytest.raises(UsageError, match="nothing"):
        await rt.chats.compact(chat.id)
    turn = await rt.chats.send(chat.id, "go\n#!words=500;rate=50")
    with pytest.raises(UsageError, match="being written"):
        await rt.chats.compact(chat.id)
    await rt.chats.cancel(turn.id)


def test_the_newest_turns_stay():
    def message(number, role):
        part = Part(kind="text", text=role)
        return Message(id=str(number), conversation="", parent=None, role=role, parts=(part,))

    branch = [message(n, role) for n, role in enumerate(["system", *("user", "assistant") * 4])]
    older, kept = split(branch, 2)
    assert (len(older), len(kept)) == (5, 4)
    older, kept = split(branch, 99)
    assert (len(older), len(kept)) == (3, 6)
