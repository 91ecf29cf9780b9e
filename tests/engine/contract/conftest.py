"""Every engine that the contract holds for: over the scripted worker and the real one, each
on a Unix socket and on loopback TCP."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.session import Session
from llmchat.values import ModelFile, Wants
from tests import models
from tests.engine.conftest import MakeEngine

KINDS = [
    "scripted",
    "scripted-tcp",
    pytest.param("real", marks=pytest.mark.model),
    pytest.param("real-tcp", marks=[pytest.mark.model, pytest.mark.torture]),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(kind: str, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> LocalEngine:
    if kind.endswith("-tcp"):
        monkeypatch.setenv("LLMCHAT_TRANSPORT", "tcp")
    return make_engine("rate=500" if kind.startswith("scripted") else None)


@pytest.fixture
def model(kind: str) -> ModelFile:
    if kind.startswith("scripted"):
        return ModelFile(name="test:model", path="/nowhere.gguf", identity="a1" * 32, size=1)
    path: Path = models.starter()
    return ModelFile(
        name="smollm2:135m",
        path=str(path),
        identity=models.STARTER_SHA256,
        size=path.stat().st_size,
    )


@pytest.fixture
async def session(engine: LocalEngine, model: ModelFile) -> AsyncIterator[Session]:
    found = await engine.open(model, Wants(n_ctx=1024))
    yield found
    await found.aclose()
