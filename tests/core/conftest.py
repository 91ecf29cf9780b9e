"""A whole Runtime over scripted workers, through the real engine, sockets and database."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from llmchat.core.runtime import Runtime
from llmchat.paths import Places
from llmchat.values import ChatSettings
from tests.engine.conftest import nothing_left

__all__ = ["nothing_left"]

OpenRuntime = Callable[..., Awaitable[Runtime]]


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    """A file that looks like a model; only scripted workers can load it."""
    path = tmp_path / "some-model.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    return path


@pytest.fixture
async def open_runtime(places: Places, model_path: Path) -> AsyncIterator[OpenRuntime]:
    """Opens Runtimes on this test's home; closes them at the end."""
    opened: list[Runtime] = []

    async def make(script: str = "rate=0", *, save: bool = True, **flags: object) -> Runtime:
        flags.setdefault("model", str(model_path))
        runtime = Runtime(
            places=places,
            face="tui",
            environ={**os.environ, "LLMCHAT_ENGINE": f"scripted:{script}"},
            flags=ChatSettings(keep_alive=0, **flags),  # type: ignore[arg-type]
            save=save,
        )
        await runtime.__aenter__()
        opened.append(runtime)
        return runtime

    yield make
    for runtime in reversed(opened):
        await runtime.__aexit__(None, None, None)


@pytest.fixture
async def rt(open_runtime: OpenRuntime) -> Runtime:
    """A Runtime whose model answers at once."""
    return await open_runtime()
