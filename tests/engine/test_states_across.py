"""Through real processes: what one worker read, the next one has; what may not be kept, is not."""

from pathlib import Path

import pytest

from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.disk import Folder
from llmchat.engine.protocol import Delta, Finished, Generate, RawText, TokenInfo
from llmchat.paths import Places
from llmchat.values import ModelFile, Sampling, Usage, Wants
from tests.engine.worker.test_batching import story

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
PROMPT = story(290, "Process")
WANTS = Wants(n_ctx=1024, n_threads=1)


async def _ask(engine: LocalEngine, model: ModelFile, text: str) -> tuple[Usage, list[TokenInfo]]:
    """One reply by a worker that is asked to leave afterwards, and has left."""
    session = await engine.open(model, WANTS)
    request = Generate(
        prompt=RawText(text=text),
        sampling=Sampling(temperature=0),
        max_tokens=8,
        top_logprobs=3,
        tag="chat",
    )
    tokens: list[TokenInfo] = []
    usage = Usage()
    async for event in session.generate(request):
        if isinstance(event, Delta):
            tokens += event.tokens
        if isinstance(event, Finished):
            usage = event.usage
    pid = (await session.status()).pid
    await session.aclose()
    assert await engine.stop(pid, force=False) or not await engine.live()
    return usage, tokens


async def test_states_outlive_processes(places: Places, starter: Path):
    model = ModelFile(name="starter", path=str(starter), identity="5" * 64, size=1)

    def engine(kv_budget: int | None) -> LocalEngine:
        return LocalEngine(places, face="test", kv_budget=kv_budget)

    private = engine(None)
    await _ask(private, model, PROMPT.text)
    assert not places.kv.exists()
    keeps = engine(10**9)
    _, fresh = await _ask(keeps, model, PROMPT.text)
    assert Folder(places.kv).kept().entries == 1
    usage, again = await _ask(keeps, model, PROMPT.text)
    assert usage.from_disk > 256
    assert [info.token for info in again] == [info.token for info in fresh]
    usage, twice = await _ask(keeps, model, PROMPT.text)
    assert usage.from_disk > 256
    assert twice == again
    usage, _ = await _ask(engine(None), model, PROMPT.text)  # it may read what others kept
    assert usage.from_disk > 256
    last = engine(0)
    session = await last.open(model, WANTS)
    assert Folder(places.kv).kept().size == 0
    pid = (await session.status()).pid
    await session.aclose()
    await last.stop(pid)
    assert Folder(places.kv).kept().size == 0
