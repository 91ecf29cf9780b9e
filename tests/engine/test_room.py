"""Memory between strangers: who loads at once, who fits beside whom, and who has to leave."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.client.room import leavers
from llmchat.engine.protocol import Plan, WorkerStatus
from llmchat.errors import EngineError, ModelBusy, WorkerDied
from llmchat.paths import find_places
from llmchat.values import ModelFile, Wants
from tests.engine.asking import chat, events, first_delta, text, until
from tests.engine.conftest import MakeEngine, workers_of

MIB = 1 << 20
MakeTight = Callable[..., LocalEngine]


@pytest.fixture
def other() -> ModelFile:
    return ModelFile(name="other", path="/other.gguf", identity="b2" * 32, size=1)


@pytest.fixture
def tight(make_engine: MakeEngine, tmp_path: Path) -> MakeTight:
    """Engines whose workers share a device of 1,000 MiB and take 600, or what is said."""
    device = tmp_path / "device"
    device.mkdir()

    def make(face: str = "test", *, needs: int = 600, late: float = 0.0, **given) -> LocalEngine:
        return make_engine(f"rate=0;device={device};needs={needs};late={late}", face=face, **given)

    return make


def status(pid: int, idle: float, memory: dict[str, int], **given) -> WorkerStatus:
    return WorkerStatus(pid=pid, state="idle", idle_seconds=idle, memory=memory, **given)


def test_the_longest_idle_leave_as_few_as_it_takes():
    live = [
        status(1, 5, {"GPU0": 40}),
        status(2, 50, {"GPU0": 30}),
        status(3, 99, {"GPU1": 90}),
        WorkerStatus(pid=4, state="busy", idle_seconds=0, memory={"GPU0": 90}),
        status(5, 20, {"GPU0": 20, "GPU1": 20}),
    ]

    def pids(short: dict[str, int]) -> list[int]:
        return [worker.pid for worker in leavers(short, live)]

    assert pids({"GPU0": 25}) == [2]
    assert pids({"GPU0": 45}) == [2, 5]
    assert pids({"GPU0": 10, "GPU1": 95}) == [3, 2, 5]
    assert pids({"GPU0": 500}) == [2, 5, 1]
    assert pids({"CPU": 1}) == []
    # One of an older version says only how much it holds, not where.
    assert [worker.pid for worker in leavers({"X": 1}, [status(6, 1, {}, size=9)])] == [6]


async def test_a_second_worker_of_a_model_starts_beside_a_busy_one_when_it_fits(
    tight: MakeTight, model: ModelFile, home: Path
):
    theirs, ours, third = (tight(face, needs=300) for face in ("theirs", "ours", "third"))
    first = await theirs.open(model, Wants(n_ctx=2048))
    second = await ours.open(model, Wants(n_ctx=4096))
    assert second.facts.n_ctx == 4096
    assert len(workers_of(home)) == 2
    assert text(await events(first, chat("unharmed"))).startswith("You said: **unharmed**")
    # Whoever is satisfied by either shares it, also the second.
    for n_ctx, wanted in ((1024, first), (4096, second)):
        session = await third.open(model, Wants(n_ctx=n_ctx))
        assert (await session.status()).pid == (await wanted.status()).pid
        await session.aclose()
    assert sorted(one.model for one in await ours.live()) == [model.name, model.name]


async def test_without_room_beside_it_the_model_is_busy_and_its_clients_are_named(
    tight: MakeTight, model: ModelFile, home: Path
):
    theirs, ours = tight("theirs"), tight("ours")
    session = await theirs.open(model, Wants(n_ctx=2048))
    with pytest.raises(ModelBusy) as busy:
        await ours.open(model, Wants(n_ctx=4096))
    assert f"theirs {os.getpid()}" in str(busy.value)
    assert text(await events(session, chat("unharmed"))).startswith("You said: **unharmed**")
    await until(lambda: len(workers_of(home)) == 1)


async def test_an_idle_worker_leaves_for_another_model_though_it_has_a_client(
    tight: MakeTight, model: ModelFile, other: ModelFile, home: Path
):
    theirs, ours = tight("theirs", keep_alive=60, late=0.5), tight("ours", late=0.5)
    waiting = await theirs.open(model, Wants())
    [pid] = workers_of(home)
    plans: list[Plan] = []

    def note(event: object) -> None:
        if isinstance(event, Plan):
            plans.append(event)

    session = await ours.open(other, Wants(), note)
    assert workers_of(home) == [(await session.status()).pid] != [pid]
    # The first plan lacked 200 MiB; the one that was carried out had them back.
    assert [plan.short for plan in plans] == [{"SIM0": 200 * MIB}, {}]
    assert plans[-1].devices[0].free == 1000 * MIB
    with pytest.raises(WorkerDied) as left:
        await events(waiting, chat("hello?"))
    assert left.value.key == "engine.left"


async def test_a_busy_worker_is_never_asked_to_leave(
    tight: MakeTight, model: ModelFile, other: ModelFile
):
    theirs, ours = tight("theirs"), tight("ours")
    session = await theirs.open(model, Wants())
    stream = session.generate(chat("x\n#!words=100000;rate=100"))
    await first_delta(stream)
    with pytest.raises(EngineError) as full:
        await ours.open(other, Wants())
    assert "full" in str(full.value)
    await first_delta(stream)  # it goes on
    await stream.aclose()


async def test_two_that_race_for_the_last_room_do_not_both_take_it(
    tight: MakeTight, model: ModelFile, other: ModelFile
):
    """The second one plans only after the first has taken its memory, and then makes room."""
    engines = [tight(face, keep_alive=60) for face in ("one", "two")]
    opened = await asyncio.gather(
        *(
            engine.open(which, Wants())
            for engine, which in zip(engines, (model, other), strict=True)
        )
    )
    assert [session.alive for session in opened].count(True) >= 1
    [left] = await engines[0].live()
    assert left.memory == {"SIM0": 600 * MIB}
    assert await engines[0].stop(left.pid)


CLIENT = """
import asyncio, json, sys
from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.protocol import Plan
from llmchat.paths import find_places
from llmchat.values import ModelFile, Wants
import time

async def main():
    model = ModelFile(name="m", path="/m.gguf", identity=sys.argv[1] * 32, size=1)
    said = []
    engine = LocalEngine(find_places(), face="racer", scripted="load=0.4;rate=0", keep_alive=0)
    def note(event):
        if isinstance(event, Plan):
            said.append(time.monotonic())
    await engine.open(model, Wants(), note)
    said.append(time.monotonic())
    await engine.aclose()
    print(json.dumps(said))

asyncio.run(main())
"""


def test_one_load_at_a_time_whatever_the_home(tmp_path: Path):
    homes = [tmp_path / name for name in ("one", "two")]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, f"{number}{number}"],
            stdout=subprocess.PIPE,
            env=os.environ | {"LLMCHAT_HOME": str(folder)},
        )
        for number, folder in enumerate(homes)
    ]
    times = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    for folder in homes:
        run = find_places({"LLMCHAT_HOME": str(folder)}).run
        if run.is_relative_to("/tmp"):
            shutil.rmtree(run, ignore_errors=True)
    first, second = sorted(times)
    assert first[-1] <= second[0], "planned while the other was loading"


def test_two_homes_share_the_folder_of_the_machine():
    machines = {find_places({"LLMCHAT_HOME": home}).machine for home in ("/a", "/b")}
    assert machines == {Path(f"/tmp/llmchat-{os.getuid()}")}
