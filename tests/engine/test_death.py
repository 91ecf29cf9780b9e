"""Ways to die, at every stage: the client is told within half a second, and the next message works.

Security tests D1, D3, D6. The worker is a scripted one that does it to itself, so that the moment
is certain; process, socket and client are the real ones.
"""

import asyncio
import contextlib
import time
from typing import get_args

import pytest

from llmchat.engine.client import cancelling
from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.protocol import Delta
from llmchat.engine.scripted.script import How
from llmchat.errors import EngineError, WorkerDied
from llmchat.values import ModelFile, Wants
from tests.engine.asking import chat, events, first_delta, text, until
from tests.engine.conftest import MakeEngine, workers_of

WAYS = [how for how in get_args(How) if how not in ("SIGTERM", "raise")]
TOLD = {"exit0": "exit 0", "exit1": "exit 1"}
NOT_DEAD = {
    "close": "it closed the connection",
    "half": "it closed the connection",
    "garbage": "unreadable answers",
    "huge": "unreadable answers",
}


NOTICED = 5.0
"""Seconds: half of one is reached on a quiet machine, and never when nobody looks."""
AT_ONCE = 1.5
"""Seconds: waiting for a worker to obey would take 2."""


@pytest.mark.parametrize("stage", ["read", "first", "reply", "idle"])
@pytest.mark.parametrize("how", WAYS)
async def test_the_client_survives_and_goes_on(
    make_engine: MakeEngine, model: ModelFile, how: str, stage: str
):
    # Some only spoil their socket, and must still be there for the next message.
    engine = make_engine(keep_alive=60 if how in NOT_DEAD else 0)
    session = await engine.open(model, Wants())
    received: list[object] = []
    last = time.monotonic()
    words = f"tell me\n#!words=40;prompt=100;rate=2000;die={how};at={stage}"
    stream = session.generate(chat(words))
    if stage == "idle":
        received = [event async for event in stream]
        last = time.monotonic()
        await until(lambda: not session.alive)
        stream = session.generate(chat("are you there?"))
    with pytest.raises(WorkerDied) as died:  # noqa: PT012
        async for event in stream:
            received.append(event)
            last = time.monotonic()
    assert time.monotonic() - last < NOTICED
    assert died.value.signal == NOT_DEAD.get(how, TOLD.get(how, how))
    assert died.value.recoverable
    assert any(isinstance(event, Delta) for event in received) == (stage in ("reply", "idle"))
    await session.aclose()

    started = time.monotonic()
    session = await engine.open(model, Wants())
    assert text(await events(session, chat("and now?"))).startswith("You said: **and now?**")
    assert time.monotonic() - started < 4 * NOTICED
    for status in await engine.live():
        assert await engine.stop(status.pid)


async def test_an_exception_in_the_loop_is_a_death_with_its_words(
    engine: LocalEngine, model: ModelFile
):
    session = await engine.open(model, Wants())
    with pytest.raises(WorkerDied) as died:
        await events(session, chat("x\n#!die=raise"))
    assert died.value.signal == "exit 70"
    assert died.value.last_lines[-1] == "RuntimeError: The script says so."


async def test_whoever_did_not_start_it_is_told_the_signal_too(
    make_engine: MakeEngine, model: ModelFile
):
    first, second = make_engine(face="one"), make_engine(face="two")
    sessions = [await engine.open(model, Wants()) for engine in (first, second)]
    with pytest.raises(WorkerDied):
        await events(sessions[0], chat("x\n#!die=SIGSEGV"))
    with pytest.raises(WorkerDied) as died:
        await events(sessions[1], chat("hello"))
    assert died.value.signal == "SIGSEGV"


async def test_a_death_while_loading_is_tried_once_more(make_engine: MakeEngine, model: ModelFile):
    engine = make_engine("die=SIGKILL;at=load")
    name = engine.name(model)
    with pytest.raises(WorkerDied) as died:
        await engine.open(model, Wants())
    assert died.value.signal == "SIGKILL"
    assert len(engine.registry.deaths(name)) == 2


async def test_a_crash_loop_ends_and_other_models_still_load(
    make_engine: MakeEngine, model: ModelFile
):
    engine = make_engine("die=SIGABRT;at=load")
    for _ in range(2):
        with pytest.raises(WorkerDied):
            await engine.open(model, Wants())
    before = engine.registry.deaths(engine.name(model))
    with pytest.raises(WorkerDied) as died:
        await engine.open(model, Wants())
    assert engine.registry.deaths(engine.name(model)) == before, "nothing was started"
    assert died.value.key == "engine.keeps_dying"
    assert died.value.signal == "SIGABRT"
    assert "3 times" in str(died.value)

    other = make_engine()
    await (await other.open(model, Wants())).aclose()

    engine.forget_deaths(model)  # somebody asked for it
    with pytest.raises(WorkerDied) as died:
        await engine.open(model, Wants())
    assert died.value.key == "engine.died"


async def test_a_model_that_cannot_be_loaded_is_no_death(make_engine: MakeEngine, model: ModelFile):
    engine = make_engine("load_fail=1;message=The file is upside down.")
    with pytest.raises(EngineError) as failed:
        await engine.open(model, Wants())
    assert str(failed.value) == "test:model cannot be loaded: The file is upside down."
    assert not isinstance(failed.value, WorkerDied)
    assert engine.registry.deaths(engine.name(model)) == []


async def _hang(session) -> float:
    """Ask for something that hangs, stop it, and say how long stopping took."""
    stream = session.generate(chat("x\n#!words=10;hang=reply"))
    await first_delta(stream)
    started = time.monotonic()
    await stream.aclose()
    return time.monotonic() - started


async def test_a_hung_worker_gives_control_back_at_once_and_is_ended(
    engine: LocalEngine, model: ModelFile, home
):
    session = await engine.open(model, Wants())
    assert await _hang(session) < AT_ONCE
    await until(lambda: not session.alive and not workers_of(home))
    session = await engine.open(model, Wants())
    assert text(await events(session, chat("hi")))
    assert engine.registry.deaths(engine.name(model)) == []


async def test_a_hung_worker_with_neighbours_is_ended_only_when_it_does_not_move(
    make_engine: MakeEngine, model: ModelFile, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cancelling, "OBEYS", 0.2)
    monkeypatch.setattr(cancelling, "MOVES", 2.0)
    ours, theirs = make_engine(face="ours"), make_engine(face="theirs")
    session, neighbour = await ours.open(model, Wants()), await theirs.open(model, Wants())
    # Deaf, but moving: nobody may end it while somebody else is connected.
    stream = session.generate(chat("x\n#!words=60;rate=20;deaf=1"))
    async with contextlib.aclosing(stream):
        await first_delta(stream)
    assert text(await events(neighbour, chat("mine"))).startswith("You said: **mine**")
    # Hung: it does not move, so it may be.
    assert await _hang(session) < AT_ONCE
    with pytest.raises(WorkerDied):
        async with asyncio.timeout(60):
            await events(neighbour, chat("mine"))
