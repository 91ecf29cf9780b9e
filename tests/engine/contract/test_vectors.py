"""What core may rely on of every engine that embeds and ranks."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmchat.engine.protocol import Generate, RawText
from llmchat.engine.session import Session
from llmchat.errors import GenerationFailed
from llmchat.values import ModelFile, Wants
from tests import bert
from tests.engine.conftest import MakeEngine

TEXTS = ("a cat", "the dog", "a cat")


@pytest.fixture(params=["scripted", "real"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def model(tmp_path: Path, kind: str, pooling: int) -> ModelFile:
    if kind == "scripted":
        return ModelFile(name="test:model", path="/nowhere.gguf", identity="a1" * 32, size=1)
    path = tmp_path / "tiny.gguf"
    tiny = bert.tiny_reranker()
    if pooling == bert.MEAN:
        weights = {n: w for n, w in tiny.weights.items() if n.startswith(("emb", "enc"))}
        tiny = bert.Bert(weights, tiny.vocab, tiny.n_head)
    tiny.write(path, pooling=pooling, half=False)
    return ModelFile(name="tiny", path=str(path), identity="b2" * 32, size=path.stat().st_size)


@pytest.fixture
async def embedder(make_engine: MakeEngine, tmp_path: Path, kind: str) -> AsyncIterator[Session]:
    engine = make_engine("rate=500" if kind == "scripted" else None)
    found = await engine.open(model(tmp_path, kind, bert.MEAN), Wants())
    yield found
    await found.aclose()


@pytest.fixture
async def ranker(make_engine: MakeEngine, tmp_path: Path, kind: str) -> AsyncIterator[Session]:
    engine = make_engine("rate=500" if kind == "scripted" else None)
    found = await engine.open(model(tmp_path, kind, bert.RANK), Wants())
    yield found
    await found.aclose()


async def test_every_text_has_a_vector_of_length_one(embedder: Session):
    assert "embedding" in embedder.facts.capabilities
    answer = await embedder.embed(TEXTS)
    first, second, third = answer.floats()
    assert len(first) == embedder.facts.n_embd
    assert first == third != second
    assert sum(value * value for value in first) == pytest.approx(1, abs=1e-4)
    assert answer.tokens > 0


async def test_every_document_has_a_score(ranker: Session):
    assert "rerank" in ranker.facts.capabilities
    answer = await ranker.rerank("a cat", TEXTS)
    first, second, third = answer.scores
    assert first == pytest.approx(third, abs=1e-5)
    assert first != pytest.approx(second, abs=1e-5)


async def test_several_requests_at_once_each_get_their_own(embedder: Session):
    alone = (await embedder.embed(["the dog"])).floats()[0]
    answers = await asyncio.gather(*(embedder.embed([text]) for text in TEXTS * 4))
    for text, answer in zip(TEXTS * 4, answers, strict=True):
        if text == "the dog":
            assert answer.floats()[0] == pytest.approx(alone, abs=1e-3)


async def test_a_request_that_is_given_up_leaves_the_session_in_order(embedder: Session):
    task = asyncio.ensure_future(embedder.embed(["some words"] * 3000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len((await embedder.embed(["a cat"])).vectors) == 1


@pytest.mark.parametrize("kind", ["real"], indirect=True)  # a scripted worker does everything
async def test_a_model_of_vectors_does_not_write(embedder: Session):
    with pytest.raises(GenerationFailed, match="does not write"):
        async for _ in embedder.generate(Generate(prompt=RawText(text="Hello"))):
            pass
    assert (await embedder.count(RawText(text="cat"))).tokens == 5


@pytest.mark.model
async def test_a_chat_model_says_that_it_makes_none(make_engine: MakeEngine, starter: Path):
    engine = make_engine(None)
    found = ModelFile(name="starter", path=str(starter), identity="c3" * 32, size=1)
    session = await engine.open(found, Wants(n_ctx=512))
    with pytest.raises(GenerationFailed, match="starter is a chat model; it makes no vectors"):
        await session.embed(["a"])
    with pytest.raises(GenerationFailed, match="no reranker"):
        await session.rerank("a", ["b"])
    await session.aclose()
