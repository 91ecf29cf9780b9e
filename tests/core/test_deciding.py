"""The policy `ask`: the turn waits for a decision, and goes on with it."""

import asyncio
import contextlib

import pytest

from llmchat.core.events import ContextDropped, ContextFull, TurnFailed, TurnFinished
from llmchat.errors import GenerationFailed
from llmchat.values import ChatSettings

ASK = ChatSettings(context_policy="ask")


async def full_turn(open_runtime):
    """A Runtime and a turn whose conversation does not fit."""
    rt = await open_runtime("rate=0;n_ctx=100;say=ok")
    chat = await rt.chats.create()
    for number in range(6):
        await (await rt.chats.send(chat.id, f"{number} " + "word " * 12)).wait()
    return rt, await rt.chats.send(chat.id, "the last " + "word " * 20, once=ASK)


async def until_asked(turn):
    async with asyncio.timeout(60):
        async with contextlib.aclosing(turn.events()) as events:
            async for event in events:
                if isinstance(event, ContextFull):
                    return event
    raise AssertionError("nobody was asked")


@pytest.mark.parametrize("policy", ["drop-middle", "rolling"])
async def test_the_same_turn_goes_on_with_what_was_chosen(open_runtime, policy):
    rt, turn = await full_turn(open_runtime)
    full = await until_asked(turn)
    assert full.tokens > full.budget > 0
    assert turn.undecided
    assert not turn.done
    turn.decide(policy)
    (reply,) = await turn.wait()
    assert reply.text == "ok"
    assert not turn.undecided
    assert reply.generation.left_out.policy == policy
    kinds = [type(event) async for event in turn.events()]
    assert kinds.index(ContextFull) < kinds.index(ContextDropped) < kinds.index(TurnFinished)
    turn.decide("stop")  # too late: nothing
    oldest = (await rt.chats.branch(turn.conversation))[0].id
    assert (oldest in reply.generation.left_out.messages) == (policy == "rolling")


async def test_to_stop_is_an_answer_too(open_runtime):
    rt, turn = await full_turn(open_runtime)
    await until_asked(turn)
    turn.decide("stop")
    with pytest.raises(GenerationFailed) as failure:
        await turn.wait()
    assert failure.value.key == "core.context_full"
    *_, question, reply = await rt.chats.branch(turn.conversation)
    assert question.text.startswith("the last")
    assert reply.status == "failed"
    assert isinstance([event async for event in turn.events()][-1], TurnFailed)


async def test_cancelling_and_closing_end_the_waiting(open_runtime):
    rt, turn = await full_turn(open_runtime)
    await until_asked(turn)
    await rt.chats.cancel(turn.id)
    assert turn.done
    *_, question = await rt.chats.branch(turn.conversation)
    assert question.text.startswith("the last")
    again = await rt.chats.regenerate(question.id, once=ASK)
    await until_asked(again)
    await rt.chats.aclose()
    assert again.done


async def test_a_worker_that_dies_meanwhile_is_a_failure_that_keeps_the_words(open_runtime):
    rt, turn = await full_turn(open_runtime)
    await until_asked(turn)
    for worker in await rt.models.live():
        await rt.models.stop(worker.pid, force=True)
    turn.decide("rolling")
    await turn.ended()
    *_, question, reply = await rt.chats.branch(turn.conversation)
    assert question.text.startswith("the last")
    assert (reply.status, reply.text) in (("complete", "ok"), ("interrupted", ""))


async def test_nobody_is_asked_what_no_answer_would_help(open_runtime):
    rt = await open_runtime("rate=0;n_ctx=100;say=ok")
    chat = await rt.chats.create(settings=ASK)
    turn = await rt.chats.send(chat.id, "word " * 200)
    with pytest.raises(GenerationFailed) as failure:
        await turn.wait()
    assert failure.value.key == "core.message_too_long"
    assert not [event async for event in turn.events() if isinstance(event, ContextFull)]
