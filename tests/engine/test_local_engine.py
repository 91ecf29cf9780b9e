"""The first path: start, greet, ask, cancel, die, list, stop; over a real socket and process."""

import asyncio
import contextlib
import os
import signal
import time

import pytest

from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.protocol import Delta, Loading, Plan, PromptProgress
from llmchat.errors import WorkerDied
from llmchat.paths import Places
from llmchat.values import ModelFile, Wants
from tests.engine.asking import chat, events, finished, text


async def test_a_model_is_opened_asked_and_let_go(engine: LocalEngine, model: ModelFile):
    progress: list[Plan | Loading] = []
    session = await engine.open(model, Wants(), progress.append)
    assert session.facts.model == model.name
    assert [type(step) for step in progress].count(Plan) == 1
    assert progress[-1] == Loading(fraction=1.0)

    found = await events(session, chat("two words"))
    assert text(found).startswith("You said: **two words**")
    assert isinstance(found[0], PromptProgress)
    assert finished(found)[0].reason == "stop"
    assert finished(found)[0].usage.completion_tokens == 18
    await session.aclose()
    assert not session.alive


async def test_a_closed_generator_cancels_and_the_session_goes_on(
    engine: LocalEngine, model: ModelFile
):
    session = await engine.open(model, Wants())
    stream = session.generate(chat("x\n#!words=100000;rate=100"))
    async with contextlib.aclosing(stream):
        async for event in stream:
            if isinstance(event, Delta):
                break
    # The scripted worker answers one request after another: this one waits for the cancel.
    async with asyncio.timeout(60):
        assert text(await events(session, chat("again"))).startswith("You said: **again**")


async def test_a_killed_worker_is_an_error_for_everyone_and_can_be_started_again(
    engine: LocalEngine, model: ModelFile
):
    session = await engine.open(model, Wants())
    pid = (await session.status()).pid
    streams = [session.generate(chat("x\n#!words=1000;rate=50")) for _ in range(2)]
    assert isinstance(await anext(streams[0]), PromptProgress)
    waiting = [asyncio.create_task(_drain(stream)) for stream in streams]
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    died = await asyncio.gather(*waiting)
    assert time.monotonic() - started < 5
    assert [error.signal for error in died] == ["SIGKILL", "SIGKILL"]
    assert not session.alive

    session = await engine.open(model, Wants())
    assert text(await events(session, chat("hello"))).startswith("You said: **hello**")


async def _drain(stream) -> WorkerDied:
    with pytest.raises(WorkerDied) as caught:
        async for _ in stream:
            pass
    return caught.value


async def test_live_workers_are_listed_and_stopped(make_engine, model: ModelFile, places: Places):
    engine = make_engine(keep_alive=60)
    session = await engine.open(model, Wants())
    [status] = await engine.live()
    assert status.model == model.name
    assert status.state == "idle"
    assert status.clients == (f"test {os.getpid()}",)
    assert await engine.stop(status.pid)
    assert await engine.live() == []
    assert not session.alive
    assert list(places.run.glob("*.sock")) == []
    assert not await engine.stop(status.pid)
