"""Who starts, who shares, who replaces, and when a worker leaves: with real processes."""

import asyncio
import contextlib
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

import llmchat
from llmchat.engine.assignment import Limits
from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.protocol import Loading, Plan
from llmchat.engine.registry import digest
from llmchat.errors import WorkerDied
from llmchat.paths import Places
from llmchat.values import ModelFile, Wants
from tests.engine.asking import chat, drained, events, finished, first_delta, text, until
from tests.engine.conftest import MakeEngine, workers_of

CLIENT = """
import asyncio, os, sys
import msgspec
from llmchat.engine.client.engine import LocalEngine
from llmchat.paths import find_places
from llmchat.values import ModelFile, Wants

async def main():
    model = msgspec.json.decode(sys.argv[1], type=ModelFile)
    script, keep_alive = sys.argv[2], float(sys.argv[3])
    engine = LocalEngine(find_places(), face="racer", scripted=script, keep_alive=keep_alive)
    session = await engine.open(model, Wants())
    print((await session.status()).pid, flush=True)
    sys.stdin.read()
    await engine.aclose()

asyncio.run(main())
"""


def client(model: ModelFile, script: str, keep_alive: float = 60) -> "subprocess.Popen[str]":
    """Another process that opens the model, prints the worker's pid, and stays until told."""
    arguments = [msgspec.json.encode(model).decode(), script, str(keep_alive)]
    command = [sys.executable, "-c", CLIENT, *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )


async def greeted(engine: LocalEngine, clients: int = 1) -> None:
    """Wait until the one worker has that many clients."""
    async with asyncio.timeout(60):
        while not any(len(status.clients) >= clients for status in await engine.live()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def no_lock_is_held(run: Path) -> bool:
    """Every lock file in the run folder can be had."""
    for path in run.glob("*.lock"):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


async def test_four_processes_race_and_share_one_worker(
    make_engine: MakeEngine, model: ModelFile, home: Path
):
    racers = [client(model, "load=0.5") for _ in range(4)]
    try:
        said = [await asyncio.to_thread(racer.stdout.readline) for racer in racers]  # type: ignore[union-attr]
        assert len(set(said)) == 1
        assert workers_of(home) == [int(said[0])]
        [status] = await make_engine("load=0.5").live()
        assert len(status.clients) == 4
    finally:
        for racer in racers:
            racer.communicate("")
    assert await make_engine("load=0.5").stop(int(said[0]))


async def test_a_second_client_that_joins_a_load_sees_its_progress(
    make_engine: MakeEngine, model: ModelFile
):
    first, second = make_engine("load=0.5"), make_engine("load=0.5")
    opening = asyncio.create_task(first.open(model, Wants()))
    await until(lambda: bool(first.registry.names()))
    seen: list[object] = []
    session = await second.open(model, Wants(), seen.append)
    await opening
    assert any(isinstance(event, Loading) and event.fraction > 0 for event in seen)
    assert len((await session.status()).clients) == 1


async def test_the_starter_is_killed_while_loading_and_another_client_goes_on(
    make_engine: MakeEngine, model: ModelFile
):
    # Whoever greets last sets how long the worker stays: neither may set longer than the other.
    starter = client(model, "load=3.0", keep_alive=0)
    engine = make_engine("load=3.0")
    await until(lambda: bool(engine.registry.names()))
    opening = asyncio.create_task(engine.open(model, Wants()))
    # Kill it once the worker is loading for both.
    await greeted(engine, clients=2)
    starter.kill()
    starter.communicate()
    session = await opening
    assert text(await events(session, chat("still there?")))


async def test_the_only_client_is_killed_while_loading_and_nothing_stays(
    make_engine: MakeEngine, model: ModelFile, home: Path, places: Places
):
    starter = client(model, "load=300")
    engine = make_engine("load=300")
    await greeted(engine)
    starter.kill()
    starter.communicate()
    await until(lambda: not workers_of(home))
    assert engine.registry.names() == []
    await until(lambda: no_lock_is_held(places.run))


@pytest.mark.parametrize(
    "times", [pytest.param(3, id="3"), pytest.param(20, id="20", marks=pytest.mark.torture)]
)
async def test_clients_killed_at_any_moment_leave_nothing(
    make_engine: MakeEngine, model: ModelFile, home: Path, places: Places, times: int
):
    engine = make_engine("load=0.2", limits=Limits(first_client=0.5, orphaned_load=0.2))
    rng = random.Random(5)
    for _ in range(times):
        victim = client(model, "load=0.2", keep_alive=0)
        await asyncio.sleep(rng.uniform(0.1, 1.0))
        victim.kill()
        victim.communicate()
        # The worker notices by itself: nothing loaded for nobody, and gone with its last client.
        await until(lambda: not workers_of(home))
        await until(lambda: no_lock_is_held(places.run))
    session = await engine.open(model, Wants())
    assert text(await events(session, chat("and now?")))


async def test_a_cancelled_open_lets_go_of_the_load(
    make_engine: MakeEngine, model: ModelFile, home: Path
):
    engine = make_engine("load=300", limits=Limits(orphaned_load=0.1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await engine.open(model, Wants())
    await until(lambda: not workers_of(home))


async def test_wants_that_are_satisfied_share_and_others_replace_a_lone_worker(
    make_engine: MakeEngine, model: ModelFile
):
    engine = make_engine(keep_alive=60)
    session = await engine.open(model, Wants(n_ctx=2048))
    pid = (await session.status()).pid
    await session.aclose()
    session = await engine.open(model, Wants(n_ctx=1024))
    assert (await session.status()).pid == pid
    await session.aclose()
    session = await engine.open(model, Wants(n_ctx=4096))
    assert session.facts.n_ctx == 4096
    [status] = await engine.live()
    assert status.pid != pid
    assert await engine.stop(status.pid)


async def test_a_worker_leaves_with_its_last_client(
    make_engine: MakeEngine, model: ModelFile, home: Path, places: Places
):
    engine = make_engine(keep_alive=0)
    sessions = [await engine.open(model, Wants()) for _ in range(2)]
    await sessions[0].aclose()
    assert text(await events(sessions[1], chat("here")))
    await sessions[1].aclose()
    await until(lambda: not workers_of(home))
    assert list(places.run.glob("*.sock")) == []
    await until(lambda: no_lock_is_held(places.run))


async def test_a_worker_leaves_once_idle_for_its_keep_alive(
    make_engine: MakeEngine, model: ModelFile, home: Path
):
    engine = make_engine(keep_alive=60)
    session = await engine.open(model, Wants())
    started = time.monotonic()
    stream = session.generate(chat("x\n#!words=10;rate=20"))  # busy for 0.5 s: does not count
    await first_delta(stream)
    await session.keep_alive(0.6)
    async for _ in stream:
        pass
    await until(lambda: not session.alive)
    assert time.monotonic() - started > 1.0
    with pytest.raises(WorkerDied) as left:
        await events(session, chat("too late"))
    assert (left.value.key, left.value.signal) == ("engine.left", "")
    await until(lambda: not workers_of(home))


async def test_minus_one_stays_until_it_is_stopped(make_engine: MakeEngine, model: ModelFile):
    engine = make_engine(keep_alive=-1)
    await (await engine.open(model, Wants())).aclose()
    [status] = await engine.live()
    assert status.keep_alive == -1
    assert status.clients == ()
    assert await engine.stop(status.pid)


async def test_a_worker_whose_run_folder_is_gone_leaves(
    make_engine: MakeEngine, model: ModelFile, home: Path, places: Places
):
    engine = make_engine(keep_alive=-1, limits=Limits(socket_check=0.2))
    await (await engine.open(model, Wants())).aclose()
    shutil.rmtree(places.run)
    await until(lambda: not workers_of(home))


async def test_stop_asks_first_and_forces_when_told(
    make_engine: MakeEngine, model: ModelFile, home: Path
):
    engine = make_engine(keep_alive=60)
    session = await engine.open(model, Wants())
    stream = session.generate(chat("x\n#!words=1000;rate=50"))
    async with contextlib.aclosing(stream):
        await first_delta(stream)
        [status] = await engine.live()
        assert status.state == "busy"
        assert not await engine.stop(status.pid)
        assert await engine.stop(status.pid, force=True)
        with contextlib.suppress(WorkerDied):
            last = [event async for event in stream][-1]
            assert getattr(last, "reason", "") == "cancelled"
    assert workers_of(home) == []


async def test_who_has_read_the_end_does_not_find_the_worker_busy_with_it(
    make_engine: MakeEngine, model: ModelFile, home: Path
):
    engine = make_engine(keep_alive=60)
    session = await engine.open(model, Wants())
    # Its inference thread never gets beyond what it does after the last answer.
    assert finished(await events(session, chat("x\n#!hang=idle")))
    status = await session.status()
    assert status.state == "idle"
    assert await engine.stop(status.pid, force=True)
    assert workers_of(home) == []


async def test_what_a_client_left_running_keeps_the_worker_busy(
    make_engine: MakeEngine, model: ModelFile
):
    engine, other = make_engine(keep_alive=60), make_engine(keep_alive=60)
    session = await engine.open(model, Wants())
    left = await other.open(model, Wants())
    stream = left.generate(chat("x\n#!words=1000;rate=50;deaf=1"))
    await first_delta(stream)
    await other.aclose()
    assert (status := await session.status()).state == "busy"
    assert status.clients == ()  # besides who asks
    assert not await engine.stop(status.pid)
    assert await engine.stop(status.pid, force=True)


async def test_stop_ends_a_worker_that_does_not_listen(
    make_engine: MakeEngine, model: ModelFile, home: Path
):
    engine = make_engine(keep_alive=60)
    session = await engine.open(model, Wants())
    pid = (await session.status()).pid
    stream = session.generate(chat("x\n#!words=10;hang=reply"))
    await first_delta(stream)
    assert await engine.stop(pid, force=True)
    assert workers_of(home) == []
    with pytest.raises(WorkerDied):
        await drained(stream)  # words may have been on their way


async def test_an_upgraded_client_lists_and_stops_old_workers(
    make_engine: MakeEngine, model: ModelFile, monkeypatch: pytest.MonkeyPatch
):
    old = make_engine(keep_alive=60)
    with monkeypatch.context() as before:
        before.setattr(llmchat, "__version__", "0.0.1")
        await (await old.open(model, Wants())).aclose()
        name = old.name(model)
    new = make_engine(keep_alive=60)
    assert new.name(model) != name
    session = await new.open(model, Wants())
    assert len(await new.live()) == 2
    for status in await new.live():
        assert await new.stop(status.pid)
    assert not session.alive


async def test_a_stale_socket_is_replaced(make_engine: MakeEngine, model: ModelFile, home: Path):
    engine = make_engine(keep_alive=60)
    await (await engine.open(model, Wants())).aclose()
    [pid] = workers_of(home)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not workers_of(home))
    assert len(engine.registry.names()) == 1
    assert await engine.live() == []
    assert engine.registry.names() == []
    session = await engine.open(model, Wants())
    assert await engine.stop((await session.status()).pid)


def test_a_name_depends_on_model_and_script():
    assert digest("a" * 64) == digest("a" * 64)
    assert (
        len({digest("a" * 64), digest("b" * 64), digest("a" * 64, ""), digest("a" * 64, "x")}) == 4
    )


async def test_a_worker_gets_no_token_and_no_terminal(
    make_engine: MakeEngine, model: ModelFile, monkeypatch: pytest.MonkeyPatch, places: Places
):
    for name in ("HF_TOKEN", "LLMCHAT_API_KEY", "AWS_SECRET_ACCESS_KEY", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "value-of-" + name)
    session = await make_engine().open(model, Wants())
    pid = (await session.status()).pid
    process = Path(f"/proc/{pid}")
    environ = process.joinpath("environ").read_bytes().decode().split("\0")
    assert "CUDA_VISIBLE_DEVICES=value-of-CUDA_VISIBLE_DEVICES" in environ
    assert not any("TOKEN" in item or "SECRET" in item or "API_KEY" in item for item in environ)
    assert process.joinpath("cwd").readlink() == Path("/")
    assert os.getsid(pid) == pid
    descriptors = {path.name: str(path.readlink()) for path in process.joinpath("fd").iterdir()}
    assert descriptors["0"] == "/dev/null"
    assert descriptors["1"] == descriptors["2"]
    log = Path(descriptors["1"])
    assert log.parent == places.logs
    assert os.stat(log).st_mode & 0o777 == 0o600
    ours = ("socket:", "anon_inode:", str(places.run), str(places.logs), "/dev/null")
    assert all(target.startswith(ours) for target in descriptors.values())


async def test_descriptors_threads_and_processes_stay_constant(
    make_engine: MakeEngine, model: ModelFile, home: Path
):
    engine = make_engine(keep_alive=60)
    session = await engine.open(model, Wants())
    pid = (await session.status()).pid

    def held() -> list[int]:
        roots = [Path("/proc/self"), Path(f"/proc/{pid}")]
        return [len(list((root / kind).iterdir())) for root in roots for kind in ("fd", "task")]

    async def turn() -> None:
        other = await engine.open(model, Wants())
        await events(other, chat("x"))
        await engine.live()
        await other.aclose()

    await turn()
    before = held()
    for _ in range(30):
        await turn()
    # At most: the worker may not have seen the end of a connection yet, before or now.
    await until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))
    assert workers_of(home) == [pid]
    assert await engine.stop(pid)


async def test_one_load_at_a_time_on_this_machine(make_engine: MakeEngine, model: ModelFile):
    engine = make_engine("load=0.5")
    other = ModelFile(name="other", path="/other.gguf", identity="b2" * 32, size=1)
    order: list[str] = []

    async def opened(which: ModelFile) -> None:
        def note(event: object) -> None:
            if isinstance(event, Plan):
                order.append(f"plan {which.name}")

        await engine.open(which, Wants(), note)
        order.append(f"ready {which.name}")

    await asyncio.gather(opened(model), opened(other))
    first, second = order[0].split()[1], order[-1].split()[1]
    assert order == [f"plan {first}", f"ready {first}", f"plan {second}", f"ready {second}"]


async def test_a_worker_that_is_leaving_is_not_taken_for_one_that_stays(
    make_engine: MakeEngine, model: ModelFile
):
    """Its socket goes first, but a client may have got through just before."""
    theirs = make_engine("rate=0;say=here")
    for _ in range(6):
        session = await theirs.open(model, Wants())
        assert text(await events(session, chat("one"))) == "here"
        await session.aclose()  # its last client: it leaves now
        session = await theirs.open(model, Wants())
        with contextlib.suppress(WorkerDied):  # left in this very moment: core asks the next one
            assert text(await events(session, chat("two"))) == "here"
        await session.aclose()
