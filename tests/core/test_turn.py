import asyncio
import contextlib
import time

import pytest

from llmchat.core.events import (
    ContextDropped,
    ModelLoading,
    PromptRead,
    TextAdded,
    ThinkingAdded,
    TurnFailed,
    TurnFinished,
    TurnStarted,
)
from llmchat.engine.client.session import LocalSession
from llmchat.errors import GenerationFailed, LlmchatError, NotFound, WorkerDied
from llmchat.values import ChatSettings, Sampling


async def kinds(turn):
    return [event async for event in turn.events()]


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


async def wait_for_text(turn):
    """Returns once the first words of a reply have been published."""
    async with asyncio.timeout(60):
        async with contextlib.aclosing(turn.events()) as events:
            async for event in events:
                if isinstance(event, TextAdded):
                    return


async def test_words_in_words_out_and_both_are_kept(rt, open_runtime):
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "Why is the sky\n blue?\n#!say=Because.;think=hm")
    events = await kinds(turn)
    assert isinstance(events[0], TurnStarted)
    assert isinstance(events[-1], TurnFinished)
    assert of(events, ModelLoading)
    assert "".join(event.text for event in of(events, ThinkingAdded)) == "hm"
    assert "".join(event.text for event in of(events, TextAdded)) == "Because."
    (reply,) = await turn.wait()
    assert (reply.text, reply.thinking, reply.status) == ("Because.", "hm", "complete")
    assert turn.done
    assert rt.chats.turns() == []
    other = await open_runtime()
    branch = await other.chats.branch(chat.id)
    assert [message.role for message in branch] == ["user", "assistant"]
    assert branch[1] == reply
    assert (await other.chats.get(chat.id)).title == "Why is the sky"


async def test_a_reply_says_how_it_came_to_be(rt, model_path):
    chat = await rt.chats.create(settings=ChatSettings(sampling=Sampling(temperature=0.5)))
    once = ChatSettings(max_tokens=3)
    (reply,) = await (await rt.chats.send(chat.id, "hi\n#!words=9", once=once)).wait()
    made = reply.generation
    assert made is not None
    assert made.finish == "length"
    assert made.usage.completion_tokens == 3
    assert made.settings["sampling.temperature"].value == 0.5
    assert {key: origin.source for key, origin in made.settings.items()} == {
        "model": "flag",
        "keep_alive": "flag",
        "max_tokens": "message",
        "sampling.temperature": "conversation",
        "context_policy": "default",
    }
    assert made.template_digest == made.build == "scripted"
    assert made.seed is not None


async def test_the_second_turn_sends_the_first_with_its_tokens(rt):
    chat = await rt.chats.create()
    (first,) = await (await rt.chats.send(chat.id, "one")).wait()
    kept = rt._storage.store.writer.tokens([first.id])
    assert kept[first.id][0] == "scripted"
    await (await rt.chats.send(chat.id, "two")).wait()
    assert [message.role for message in await rt.chats.branch(chat.id)] == [
        "user",
        "assistant",
        "user",
        "assistant",
    ]


async def test_followers_come_late_leave_early_and_stop_nothing(rt):
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "hi\n#!words=40;rate=200")
    await wait_for_text(turn)
    late = asyncio.create_task(kinds(turn))
    leaving = asyncio.create_task(kinds(turn))
    await asyncio.sleep(0)
    leaving.cancel()
    (reply,) = await turn.wait()
    for events in (await late, await kinds(turn)):
        assert "".join(event.text for event in of(events, TextAdded)) == reply.text
        assert isinstance(events[0], TurnStarted)
        assert isinstance(events[-1], TurnFinished)
    # Long after, the text is one piece.
    assert len(of(await kinds(turn), TextAdded)) == 1


async def test_cancelled_text_is_kept_as_a_complete_reply(rt):
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "hi\n#!words=5000;rate=100")
    await wait_for_text(turn)
    await rt.chats.cancel(turn.id)
    (reply,) = await turn.wait()
    assert reply.status == "complete"
    assert reply.text
    assert reply.generation is not None
    assert reply.generation.finish == "cancelled"
    (after,) = await (await rt.chats.send(chat.id, "again\n#!say=ok")).wait()
    assert after.text == "ok"


async def test_a_stopped_reply_keeps_its_counts_and_its_tokens(rt):
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "hi\n#!words=5000;rate=100")
    await wait_for_text(turn)
    await rt.chats.cancel(turn.id)
    (reply,) = await turn.wait()
    made = reply.generation
    assert made.finish == "cancelled"
    assert made.usage.completion_tokens == len(reply.text.split()) > 0
    assert made.usage.prompt_tokens > 0
    assert made.timings.generation > 0
    vocab, tokens = rt._storage.store.writer.tokens([reply.id])[reply.id]
    assert (vocab, len(tokens)) == ("scripted", made.usage.completion_tokens)
    assert "".join(event.text for event in of(await kinds(turn), TextAdded)) == reply.text


async def test_a_worker_deaf_to_stopping_delays_nobody(rt):
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "hi\n#!words=400;rate=100;deaf=true")
    await wait_for_text(turn)
    began = time.monotonic()
    await rt.chats.cancel(turn.id)
    assert time.monotonic() - began < 3, "it goes on for 4"
    (reply,) = await turn.wait()
    assert (reply.status, reply.generation.finish) == ("complete", "cancelled")
    assert reply.text


async def test_a_worker_that_left_while_it_was_asked_is_opened_again_once(rt, monkeypatch):
    chat = await rt.chats.create()
    real = LocalSession.generate
    left: list[object] = []

    async def leave(self, request, late=None):
        if len(left) < leaving:
            left.append(request)
            raise WorkerDied("engine.left")
        async with contextlib.aclosing(real(self, request, late)) as events:
            async for event in events:
                yield event

    monkeypatch.setattr(LocalSession, "generate", leave)
    leaving = 1
    (reply,) = await (await rt.chats.send(chat.id, "hi\n#!say=here")).wait()
    assert (reply.text, len(left)) == ("here", 1)
    leaving = 9
    with pytest.raises(WorkerDied):
        await (await rt.chats.send(chat.id, "hi")).wait()
    assert len(left) == 3


async def test_sending_by_hand_forgets_that_a_model_kept_dying(open_runtime):
    rt = await open_runtime()
    model = rt.models.default() or rt.models.resolve(rt.settings.layers().values.model)
    engine = rt._running_engine()
    engine.registry.prepare()
    for pid in range(1, 9):
        engine.registry.note_death(engine.name(model), pid, "SIGSEGV")
    assert engine.registry.keeps_dying(engine.name(model))
    chat = await rt.chats.create()
    (reply,) = await (await rt.chats.send(chat.id, "hi\n#!say=here")).wait()
    assert reply.text == "here"
    assert not engine.registry.keeps_dying(engine.name(model))


async def wait_for_loading(turn):
    """Returns once the model of a turn is being loaded."""
    async with asyncio.timeout(60), contextlib.aclosing(turn.events()) as events:
        async for event in events:
            if isinstance(event, ModelLoading):
                return


async def stop_while_loading(rt, turn):
    await wait_for_loading(turn)
    async with asyncio.timeout(60):
        await rt.chats.cancel(turn.id)
    assert await turn.wait() == turn.replies == ()
    assert (await kinds(turn))[-1].replies == ()


async def spoken(rt, chat):
    return [(message.role, message.text) for message in await rt.chats.branch(chat.id)]


async def test_stopped_while_the_model_loads_the_question_is_all_that_stays(open_runtime):
    rt = await open_runtime("load=300")
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "precious")
    await stop_while_loading(rt, turn)
    assert await spoken(rt, chat) == [("user", "precious")]
    assert (await rt.chats.get(chat.id)).title == "precious"
    again = await open_runtime("rate=0;say=ok")
    assert await spoken(again, chat) == [("user", "precious")]
    (question,) = await again.chats.branch(chat.id)
    await (await again.chats.regenerate(question.id)).wait()
    (_, reply) = await again.chats.branch(chat.id)
    assert (reply.text, reply.siblings) == ("ok", (reply.id,))


async def test_quitting_while_the_model_loads_leaves_the_question_too(open_runtime):
    rt = await open_runtime("load=300")
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "precious")
    await wait_for_loading(turn)
    await rt.__aexit__(None, None, None)
    assert await spoken(await open_runtime(), chat) == [("user", "precious")]


async def test_other_versions_stopped_while_loading_leave_what_was_shown(open_runtime):
    rt = await open_runtime("rate=0;say=first")
    chat = await rt.chats.create()
    (first,) = await (await rt.chats.send(chat.id, "one")).wait()
    await (await rt.chats.regenerate(first.id)).wait()
    await rt.chats.select(first.id)
    await (await rt.chats.send(chat.id, "two")).wait()
    shown = await rt.chats.branch(chat.id)
    await rt.__aexit__(None, None, None)
    rt = await open_runtime("load=300")
    await stop_while_loading(rt, await rt.chats.regenerate(first.id, n=3))
    assert await rt.chats.branch(chat.id) == shown
    await stop_while_loading(rt, await rt.chats.continue_(first.id))
    assert await rt.chats.branch(chat.id) == shown
    await stop_while_loading(rt, await rt.chats.edit(shown[2].id, "two, edited"))
    assert (await spoken(rt, chat))[2:] == [("user", "two, edited")]


async def test_an_edited_reply_stopped_while_loading_keeps_the_words_of_the_edit(open_runtime):
    rt = await open_runtime("rate=0;say=first")
    chat = await rt.chats.create()
    (first,) = await (await rt.chats.send(chat.id, "one")).wait()
    await rt.__aexit__(None, None, None)
    rt = await open_runtime("load=300")
    turn = await rt.chats.edit(first.id, "by hand")
    await wait_for_loading(turn)
    await rt.chats.cancel(turn.id)
    (reply,) = await turn.wait()
    assert (reply.text, reply.status) == ("by hand", "complete")
    assert (await spoken(rt, chat))[-1] == ("assistant", "by hand")


async def test_what_was_shown_before_may_be_gone_by_then(open_runtime):
    rt = await open_runtime("rate=0;say=first")
    chat = await rt.chats.create()
    (first,) = await (await rt.chats.send(chat.id, "one")).wait()
    await rt.__aexit__(None, None, None)
    rt = await open_runtime("load=300")
    turn = await rt.chats.regenerate(first.id)
    await wait_for_loading(turn)
    await rt.chats.delete_message(first.id)
    await stop_while_loading(rt, turn)
    assert await spoken(rt, chat) == [("user", "one")]


async def test_a_failed_request_keeps_its_sentence_and_the_next_one_works(rt):
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "hi\n#!fail=internal;message=It broke.")
    events = await kinds(turn)
    assert isinstance(events[-1], TurnFailed)
    with pytest.raises(GenerationFailed):
        await turn.wait()
    question, reply = await rt.chats.branch(chat.id)
    assert question.text.startswith("hi")
    assert reply.status == "failed"
    assert reply.error is not None
    assert "It broke." in reply.error
    (after,) = await (await rt.chats.send(chat.id, "again\n#!say=ok")).wait()
    assert after.text == "ok"


async def test_a_dead_worker_leaves_the_text_and_is_opened_again(rt):
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "hi\n#!words=20;rate=100;die=SIGKILL;at=reply")
    with pytest.raises(WorkerDied):
        await turn.wait()
    (reply,) = turn.replies
    assert reply.status == "interrupted"
    assert reply.text
    assert reply.error is not None
    assert "SIGKILL" in reply.error
    assert (await rt.chats.branch(chat.id))[-1] == reply
    (after,) = await (await rt.chats.send(chat.id, "again\n#!say=ok")).wait()
    assert after.text == "ok"


async def test_words_are_kept_when_there_is_no_model(open_runtime):
    rt = await open_runtime(model="no-such-model")
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "precious")
    with pytest.raises(NotFound):
        await turn.wait()
    question, reply = await rt.chats.branch(chat.id)
    assert question.text == "precious"
    assert reply.status == "failed"


async def test_a_model_that_cannot_be_loaded(open_runtime):
    rt = await open_runtime("load_fail=1;message=bad tensor")
    chat = await rt.chats.create()
    with pytest.raises(LlmchatError, match="bad tensor"):
        await (await rt.chats.send(chat.id, "precious")).wait()
    assert (await rt.chats.branch(chat.id))[0].text == "precious"


async def test_closing_the_runtime_saves_what_there_is(open_runtime, places):
    rt = await open_runtime()
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "hi\n#!words=5000;rate=100")
    await wait_for_text(turn)
    await rt.__aexit__(None, None, None)
    assert turn.done
    other = await open_runtime()
    _, reply = await other.chats.branch(chat.id)
    assert reply.status == "complete"
    assert reply.text


async def test_what_does_not_fit_is_left_out_stored_and_told(open_runtime):
    rt = await open_runtime("rate=0;n_ctx=100;say=ok")
    chat = await rt.chats.create(settings=ChatSettings(system="Be kind."))
    for number in range(8):
        await (await rt.chats.send(chat.id, f"{number} " + "word " * 12)).wait()
    turn = await rt.chats.send(chat.id, "the last " + "word " * 12)
    (dropped,) = of(await kinds(turn), ContextDropped)
    (reply,) = await turn.wait()
    assert dropped.policy == "drop-middle"
    branch = await rt.chats.branch(chat.id)
    assert branch[0].id not in dropped.messages
    assert branch[2].id in dropped.messages
    assert not {branch[-1].id, branch[-2].id} & set(dropped.messages)
    assert reply.generation is not None
    assert reply.generation.left_out is not None
    assert reply.generation.left_out.messages == dropped.messages
    once = ChatSettings(context_policy="stop")
    with pytest.raises(GenerationFailed, match="tokens"):
        await (await rt.chats.send(chat.id, "more " * 12, once=once)).wait()


async def test_reading_the_prompt_is_reported(rt):
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "hi\n#!prompt=320;read=3200;say=ok")
    await turn.wait()
    steps = []
    async for event in turn.events():
        steps += [event] if isinstance(event, PromptRead) else []
    assert steps
    assert steps[-1].done == steps[-1].total


async def test_nothing_is_written_without_saving(open_runtime, places):
    rt = await open_runtime(save=False)
    chat = await rt.chats.create()
    await (await rt.chats.send(chat.id, "secret")).wait()
    assert not places.database.exists()


async def test_an_error_of_ours_ends_a_turn_for_who_follows_it(rt, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "hi")
    monkeypatch.setattr(turn, "_ending", broken)
    async with asyncio.timeout(20):
        kinds = [type(event).__name__ async for event in turn.events()]
        assert "TurnFinished" not in kinds
        with pytest.raises(RuntimeError, match="a bug"):
            await turn.wait()
    assert rt.chats.turns() == []
