"""Memory that runs out at every stage of a real worker's life.

The kernel refuses more addresses (RLIMIT_AS, set from here at the moment that is meant), or ends
the process, which is what a cgroup without memory does. Whatever happens, it is a sentence with a
next step, nobody waits for ever, the next message works, and nothing is left.
"""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from llmchat.engine.client import starved
from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.protocol import Delta, Generate, Loading, Plan, PromptProgress
from llmchat.engine.session import GenerateEvent, Session
from llmchat.errors import EngineError, WorkerDied
from llmchat.paths import Places
from llmchat.values import ModelFile, Wants
from tests.engine.asking import chat, events, finished, until
from tests.engine.conftest import workers_of

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

PATIENCE = 300.0
LINE = "The quick brown fox jumps over the lazy dog. "
MIB = 1 << 20
NOTHING = -(1 << 50)
"""Bytes to spare for a process that gets no address at all any more."""


def allow(pid: int, spare: int) -> None:
    """Let a process map what it has now and `spare` bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    most = max(0, pages * resource.getpagesize() + spare)
    resource.prlimit(pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def allow_all(pid: int) -> None:
    """Take that back."""
    resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
async def engine(places: Places) -> AsyncIterator[LocalEngine]:
    """Over real workers that save states, stay while they are used, and leave nothing."""
    made = LocalEngine(places, face="test", environ=os.environ, keep_alive=60, kv_budget=1 << 30)
    yield made
    for worker in await made.live():
        await made.stop(worker.pid, force=True)
    await made.aclose()
    await until(lambda: not any(map(made.registry.held, names_of(made))))
    assert made.registry.names() == []


def names_of(engine: LocalEngine) -> list[str]:
    return [path.stem for path in engine.registry.run.glob("*.lock")]


@pytest.fixture
def model(starter: Path) -> ModelFile:
    """The starter."""
    return ModelFile(name="m", path=str(starter), identity="0" * 64, size=1)


async def pid_of(session: Session) -> int:
    return (await session.status()).pid


async def goes_on(engine: LocalEngine, model: ModelFile) -> None:
    """The next message works."""
    engine.forget_deaths(model)
    session = await engine.open(model, Wants(n_ctx=256))
    assert len(finished(await asked(session, chat("and now?", max_tokens=2)))) == 1


async def asked(session: Session, request: Generate) -> list[GenerateEvent]:
    """All of a reply; TimeoutError instead of waiting for ever."""
    async with asyncio.timeout(PATIENCE):
        return await events(session, request)


def sentence_of(error: EngineError) -> str:
    """What a user reads, if it is as it should be."""
    assert error.sentence.strip()
    assert error.hint
    assert "\n" not in error.sentence + error.hint
    lines = error.last_lines if isinstance(error, WorkerDied) else ()
    assert not any(line.startswith(("File ", "Traceback", "Stack")) for line in lines)
    return f"{error.sentence} {error.hint}"


# while it loads

BIG = Wants(n_ctx=4096, n_batch=2048, n_ubatch=2048)


@pytest.mark.parametrize("stage", ["weights", "cache", "compute"])
async def test_a_load_without_memory_says_what_could_not_be_had(
    engine: LocalEngine, model: ModelFile, home: Path, stage: str
):
    whole = (await engine.open(model, BIG)).facts.memory
    spare = {
        "weights": MIB,
        "cache": whole["model"] + whole["context"] // 2,
        "compute": whole["model"] + whole["context"] + whole["compute"] // 2,
    }[stage]
    for worker in await engine.live():
        await engine.stop(worker.pid, force=True)
    limited: list[int] = []

    def note(event: Plan | Loading) -> None:
        if isinstance(event, Plan):  # it waits for the answer: the moment is certain
            limited.extend(workers_of(home))
            allow(limited[-1], spare)

    with pytest.raises(EngineError) as refused:
        async with asyncio.timeout(PATIENCE):
            await engine.open(model, BIG, note)
    assert limited
    assert "allocate" in sentence_of(refused.value) or "memory" in sentence_of(refused.value)
    assert not isinstance(refused.value, WorkerDied) or (
        refused.value.key == "engine.out_of_memory"
    )
    await goes_on(engine, model)


async def test_a_context_that_no_machine_holds_is_refused_with_both_numbers(
    engine: LocalEngine, model: ModelFile
):
    with pytest.raises(EngineError) as refused:
        await engine.open(model, Wants(n_ctx=2**24))
    said = sentence_of(refused.value)
    assert "of memory" in said
    assert "smaller context" in said
    await goes_on(engine, model)


# while it works


async def test_a_prompt_without_memory(engine: LocalEngine, model: ModelFile):
    # Without flash attention a step of so many rows takes a buffer that no step before it took.
    wants = Wants(n_ctx=4096, n_batch=2048, n_ubatch=2048, flash_attn="off")
    session = await engine.open(model, wants)
    allow(await pid_of(session), NOTHING)
    with pytest.raises(WorkerDied) as died:
        await asked(session, chat(LINE * 150, max_tokens=2))
    assert died.value.key == "engine.out_of_memory"
    assert "memory" in sentence_of(died.value)
    await goes_on(engine, model)


async def test_a_reply_goes_on_without_more_memory(engine: LocalEngine, model: ModelFile):
    """What generating needs was taken while loading."""
    session = await engine.open(model, Wants(n_ctx=1024))
    pid = await pid_of(session)
    found = []
    async with asyncio.timeout(PATIENCE):
        async for event in session.generate(chat("Go on.", max_tokens=60, ignore_eos=True)):
            found.append(event)
            if isinstance(event, Delta):
                allow(pid, NOTHING)
    assert [end.reason for end in finished(found)] == ["length"]
    assert session.alive


async def test_many_alternatives_without_memory_and_a_neighbour_who_generates(
    engine: LocalEngine, model: ModelFile
):
    """Either there is room for all after all, or both are told, and the neighbour has its words."""
    mine, theirs = [await engine.open(model, Wants(n_ctx=2048)) for _ in range(2)]
    pid = await pid_of(mine)
    begun = asyncio.Event()
    words: list[GenerateEvent] = []

    async def neighbour() -> None:
        request = chat("Tell me a story.", max_tokens=200, ignore_eos=True)
        async for event in theirs.generate(request):
            words.append(event)
            if isinstance(event, Delta):
                begun.set()

    task = asyncio.create_task(neighbour())
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        allow(pid, NOTHING)
        several = mine.facts.n_seq_max - 1
        request = chat("Hello", n=several, max_tokens=2)
        ended = await asyncio.gather(events(mine, request), task, return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException):
            assert isinstance(one, EngineError)
            assert "memory" in sentence_of(one)
    assert any(isinstance(event, Delta) for event in words)
    await goes_on(engine, model)


# states


async def test_a_state_without_memory_ends_nobody(engine: LocalEngine, model: ModelFile):
    """Parking and saving copy a state: where it cannot be, it is read again, and that is all."""
    fat = Wants(n_ctx=1024, cache_type_k="f32", cache_type_v="f32", flash_attn="off")
    session = await engine.open(model, fat)
    pid = await pid_of(session)
    long = chat(LINE * 70, max_tokens=2, tag="long")
    assert len(finished(await asked(session, long))) == 1
    allow(pid, NOTHING)
    assert len(finished(await asked(session, chat("Hello", max_tokens=4, tag="short")))) == 1
    status = await session.status()
    assert (status.pid, status.parked) == (pid, 0)
    allow_all(pid)
    again = finished(await asked(session, long))
    assert len(again) == 1
    allow(pid, NOTHING)
    name = engine.name(model)
    assert await engine.stop(pid)  # it would save what it has read
    await until(lambda: not engine.registry.held(name))
    assert engine.registry.deaths(name) == []
    await goes_on(engine, model)


async def test_a_request_that_the_worker_cannot_hold_costs_nobody_else(
    engine: LocalEngine, model: ModelFile
):
    mine, theirs = [await engine.open(model, Wants(n_ctx=512)) for _ in range(2)]
    allow(await pid_of(mine), 0)
    with pytest.raises(EngineError) as refused:
        await asked(mine, chat("word " * 3_000_000, max_tokens=2))
    sentence_of(refused.value)
    assert len(finished(await asked(theirs, chat("Hello", max_tokens=2)))) == 1
    await goes_on(engine, model)


# the kernel's kill


def reads(event: GenerateEvent) -> bool:
    return isinstance(event, PromptProgress)


def writes(event: GenerateEvent) -> bool:
    return isinstance(event, Delta)


READ = chat(LINE * 90, max_tokens=2)
WRITE = chat("Hi", max_tokens=900, ignore_eos=True)
SEVERAL = chat("Hi", n=12, max_tokens=60, ignore_eos=True)


@pytest.mark.parametrize(
    ("moment", "request_", "counted"),
    [
        pytest.param(reads, READ, False, id="reading"),
        pytest.param(writes, WRITE, False, id="generating"),
        pytest.param(writes, WRITE, True, id="generating, counted by the kernel"),
        pytest.param(writes, SEVERAL, False, id="alternatives"),
    ],
)
async def test_a_kill_by_nobody_of_ours(
    engine: LocalEngine,
    model: ModelFile,
    monkeypatch: pytest.MonkeyPatch,
    moment: Callable[[GenerateEvent], bool],
    request_: Generate,
    counted: bool,
):
    session = await engine.open(model, Wants(n_ctx=1024))
    pid = await pid_of(session)
    before = starved.kills()
    received = []
    with pytest.raises(WorkerDied) as died:  # noqa: PT012
        async with asyncio.timeout(PATIENCE):
            async for event in session.generate(request_):
                received.append(event)
                if moment(event) and pid:
                    monkeypatch.setattr(starved, "kills", lambda: before + counted)
                    os.kill(pid, signal.SIGKILL)
                    pid = 0
    assert died.value.signal == "SIGKILL"
    said = sentence_of(died.value)
    assert "out of memory" in said
    assert died.value.key == ("engine.out_of_memory" if counted else "engine.killed")
    assert any(map(moment, received))
    await goes_on(engine, model)
