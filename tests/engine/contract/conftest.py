"""Every engine that the contract holds for: over the scripted worker, and over the real one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.session import Session
from llmchat.values import ModelFile, Wants
from tests import models
from tests.engine.conftest import MakeEngine

KINDS = ["scripted", pytest.param("real", marks=pytest.mark.model)]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(kind: str, make_engine: MakeEngine) -> LocalEngine:
    return make_engine("rate=500" if kind == "scripted" else None)


@pytest.fixture
def model(kind: str) -> ModelFile:
    if kind == "scripted":
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
