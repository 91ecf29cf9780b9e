"""A model's file that shrinks while a worker has it mapped (security plan C6)."""

import os
import shutil
from pathlib import Path

import pytest

from llmchat.engine.client.engine import LocalEngine
from llmchat.errors import EngineError, WorkerDied
from llmchat.values import ModelFile, Wants
from tests.engine.asking import chat, events, finished
from tests.engine.conftest import MakeEngine

pytestmark = pytest.mark.model


async def test_a_file_that_shrinks_under_the_worker_ends_the_worker_alone(
    make_engine: MakeEngine, starter: Path, tmp_path: Path
):
    """The kernel answers with SIGBUS: a sentence here, and the next open works again."""
    path = tmp_path / "shrinking.gguf"
    shutil.copyfile(starter, path)
    size = path.stat().st_size
    model = ModelFile(name="shrinking", path=str(path), identity="5" * 64, size=size)
    engine: LocalEngine = make_engine(None)
    session = await engine.open(model, Wants(n_ctx=256))
    assert finished(await events(session, chat("hi", max_tokens=2)))
    os.truncate(path, 1_000_000)
    with pytest.raises(WorkerDied) as caught:
        await events(session, chat("hi again", max_tokens=8))
    assert "SIGBUS" in caught.value.sentence
    with pytest.raises(EngineError) as refused:
        await engine.open(model, Wants(n_ctx=256))
    assert "shrinking.gguf" in refused.value.sentence
    shutil.copyfile(starter, path)
    session = await engine.open(model, Wants(n_ctx=256))
    assert finished(await events(session, chat("hi", max_tokens=2)))
    await session.aclose()


@pytest.mark.torture
async def test_a_file_that_is_deleted_under_the_worker_is_no_matter(
    make_engine: MakeEngine, starter: Path, tmp_path: Path
):
    path = tmp_path / "gone.gguf"
    shutil.copyfile(starter, path)
    model = ModelFile(name="gone", path=str(path), identity="6" * 64, size=path.stat().st_size)
    session = await make_engine(None).open(model, Wants(n_ctx=256))
    path.unlink()
    assert finished(await events(session, chat("hi", max_tokens=4)))
    await session.aclose()
