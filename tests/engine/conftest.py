"""What tests of the engine share: an engine on this test's home, and nothing left running."""

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from llmchat.engine.assignment import Limits
from llmchat.engine.client.engine import LocalEngine
from llmchat.paths import Places, find_places
from llmchat.values import ModelFile

MakeEngine = Callable[..., LocalEngine]


def workers_of(home: Path) -> list[int]:
    """The pids of this home's worker processes that are not just zombies."""
    run = find_places({"LLMCHAT_HOME": str(home)}).run
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    found = []
    for line in listed.splitlines():
        pid, state, args = line.split(None, 2)
        if "llmchat.engine." in args and f'"run":"{run}"' in args and not state.startswith("Z"):
            found.append(int(pid))
    return found


@pytest.fixture(autouse=True)
def nothing_left(home: Path) -> Iterator[None]:
    """Fails a test that leaves a worker process behind."""
    yield
    deadline = time.monotonic() + 30
    while (left := workers_of(home)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"worker processes left: {left}"


@pytest.fixture
async def make_engine(places: Places) -> AsyncIterator[MakeEngine]:
    """Builds local engines over scripted workers that leave with their last client."""
    made: list[LocalEngine] = []

    def make(
        script: str | None = "rate=0",
        *,
        face: str = "test",
        keep_alive: float | None = 0,
        limits: Limits | None = None,
    ) -> LocalEngine:
        engine = LocalEngine(
            places,
            face=face,
            environ=os.environ,
            scripted=script,
            keep_alive=keep_alive,
            limits=limits,
        )
        made.append(engine)
        return engine

    yield make
    for engine in made:
        await engine.aclose()


@pytest.fixture
def engine(make_engine: MakeEngine) -> LocalEngine:
    """A local engine over a scripted worker that answers at once."""
    return make_engine()


@pytest.fixture
def model() -> ModelFile:
    """A model that only scripted workers can load."""
    return ModelFile(name="test:model", path="/nowhere.gguf", identity="a1" * 32, size=1)
