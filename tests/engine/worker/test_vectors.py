"""Embeddings and scores, against BERT computed again in NumPy."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llmchat.engine.protocol import (
    Embed,
    Embedded,
    Generate,
    PromptProgress,
    RawText,
    Rerank,
    Reranked,
    Tokenize,
    Tokenized,
)
from llmchat.engine.worker.main import makes_vectors
from llmchat.engine.worker.vectors.backend import VectorBackend
from llmchat.engine.worker.vectors.computing import unit
from llmchat.values import Wants
from tests import bert, models
from tests.engine.worker.driver import Asked, Driver

TEXTS = (
    "A cat sits on the mat.",
    "Ein Hund läuft über die Straße!",
    "Quantum chromodynamics describes the strong interaction (quarks & gluons).",
    "short",
    "Naïve café — déjà vu, 1984; 3.14 and C++ 漢字",
    "word " * 30,
)
LETTERS = ("a cat sat.", "the dog?", "zebra", "q " * 20, "an ox. an ox. an ox.")


class VectorDriver(Driver):
    """A driver whose model makes vectors."""

    def __init__(self, path: Path, wants: Wants | None = None) -> None:
        super().__init__(path, wants or Wants(n_threads=1), backend=VectorBackend())

    def asked(self, work) -> Asked:
        asked = Asked()
        asked.cancel = self.backend.submit(work, asked.emit)
        return asked.wait()


def vectors(asked: Asked) -> np.ndarray:
    found = asked.events[-1]
    assert isinstance(found, Embedded), found
    return np.array([np.frombuffer(vector, "<f4") for vector in found.vectors])


@pytest.fixture(scope="module")
def minilm() -> bert.Bert:
    folder = models.minilm()
    weights = bert.read_safetensors(folder / "model.safetensors")
    kept = {name: values for name, values in weights.items() if "pooler" not in name}
    return bert.Bert(kept, (folder / "vocab.txt").read_text().splitlines(), n_head=12)


@pytest.fixture(scope="module")
def embedder(minilm: bert.Bert, tmp_path_factory) -> Iterator[VectorDriver]:
    path = tmp_path_factory.mktemp("model") / "minilm.gguf"
    minilm.write(path)
    driver = VectorDriver(path)
    yield driver
    driver.close()
    path.unlink()


@pytest.fixture(scope="module")
def ranker_path(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("model") / "ranker.gguf"
    bert.tiny_reranker().write(path, pooling=bert.RANK, half=False)
    return path


@pytest.fixture(scope="module")
def ranker(ranker_path: Path) -> Iterator[VectorDriver]:
    driver = VectorDriver(ranker_path)
    yield driver
    driver.close()


@pytest.mark.model
def test_vectors_are_those_of_the_original_model(embedder: VectorDriver, minilm: bert.Bert):
    assert embedder.facts.capabilities == ("embedding",)
    assert (embedder.facts.n_embd, embedder.facts.n_ctx) == (384, 512)
    found = vectors(embedder.asked(Embed(id=1, texts=TEXTS)))
    assert found.shape == (len(TEXTS), 384)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, found, strict=True):
        assert vector @ minilm.embed(text) > 0.999, text


@pytest.mark.model
def test_the_tokens_are_those_of_the_original_model(embedder: VectorDriver, minilm: bert.Bert):
    for text in TEXTS[:4]:
        answer = embedder.asked(Tokenize(id=1, text=text)).events[-1]
        assert isinstance(answer, Tokenized)
        assert list(answer.tokens) == minilm.tokenize(text)


@pytest.mark.model
def test_many_texts_are_what_each_alone_is(embedder: VectorDriver):
    texts = tuple(f"text number {n} " + "and more " * (n % 9) for n in range(150))
    asked = embedder.asked(Embed(id=1, texts=texts))
    together = vectors(asked)
    for number in (0, 63, 64, 149):
        alone = vectors(embedder.asked(Embed(id=2, texts=(texts[number],))))[0]
        assert together[number] @ alone > 0.9999
    progress = [event for event in asked.events if isinstance(event, PromptProgress)]
    assert len(progress) >= 3  # 64 sequences a decode
    assert (progress[-1].done, progress[-1].total) == (150, 150)


@pytest.mark.model
def test_a_text_that_is_too_long_is_refused_with_numbers_or_cut(
    embedder: VectorDriver,
):
    long = "word " * 600
    failed = embedder.asked(Embed(id=1, texts=("short", long))).failed()
    assert failed.code == "context_exceeded"
    assert "Text 2 has 602 tokens; the model takes 512" in failed.message
    texts = ("short", long, "word " * 510)
    _, cut, whole = vectors(embedder.asked(Embed(id=1, texts=texts, truncate=True)))
    assert cut @ whole > 0.9999


@pytest.mark.model
def test_what_it_cannot_do_is_a_sentence(embedder: VectorDriver):
    asked = embedder.asked(Generate(id=1, prompt=RawText(text="Hello")))
    assert asked.failed().code == "unsupported"
    assert "does not write" in asked.failed().message
    assert (
        "no reranker" in embedder.asked(Rerank(id=1, query="a", documents=("b",))).failed().message
    )
    assert embedder.asked(Embed(id=1, texts=())).failed().code == "bad_request"
    assert len(vectors(embedder.asked(Embed(id=1, texts=("",))))) == 1


@pytest.mark.model
def test_two_jobs_share_the_steps_and_one_can_be_cancelled(embedder: VectorDriver):
    many = Asked()
    cancel = embedder.backend.submit(
        Embed(id=1, texts=tuple(f"some words {n}" for n in range(3000))), many.emit
    )
    many.until(lambda events: bool(events))
    one = embedder.asked(Embed(id=2, texts=("a single text",)))
    assert isinstance(one.events[-1], Embedded)
    assert not isinstance(many.events[-1], Embedded)
    cancel()
    many.until(lambda events: not isinstance(events[-1], PromptProgress))
    assert many.failed().code == "cancelled"


def test_scores_are_those_of_the_classifier(ranker: VectorDriver):
    reference = bert.tiny_reranker()
    assert ranker.facts.capabilities == ("rerank",)
    for query in LETTERS[:2]:
        answer = ranker.asked(Rerank(id=1, query=query, documents=LETTERS)).events[-1]
        assert isinstance(answer, Reranked)
        expected = [reference.score(query, document) for document in LETTERS]
        assert answer.scores == pytest.approx(expected, abs=1e-2)
        assert len(set(np.round(expected, 2))) > 2


def test_a_pair_that_is_too_long_is_refused_or_cut_in_the_document(ranker: VectorDriver):
    reference = bert.tiny_reranker()
    long = "b " * 200
    failed = ranker.asked(Rerank(id=1, query="a", documents=(long,))).failed()
    assert (failed.code, "204 tokens" in failed.message) == ("context_exceeded", True)
    answer = ranker.asked(Rerank(id=1, query="a", documents=(long,), truncate=True)).events[-1]
    assert isinstance(answer, Reranked)
    assert answer.scores[0] == pytest.approx(reference.score("a", "b " * 92), abs=1e-2)
    assert ranker.asked(Embed(id=1, texts=("a",))).failed().code == "unsupported"


def test_texts_cannot_make_special_tokens(ranker: VectorDriver):
    answer = ranker.asked(Tokenize(id=1, text="[SEP]")).events[-1]
    assert isinstance(answer, Tokenized)
    assert bert.SEP not in answer.tokens


def test_a_vector_of_zeros_stays_one():
    zeros = np.zeros(3, np.float32)
    assert unit(zeros).tolist() == [0, 0, 0]
    assert np.allclose(unit(np.array([3, 0, 4], np.float32)), [0.6, 0, 0.8])


@pytest.mark.model
def test_the_header_says_which_backend_a_file_gets(
    ranker_path: Path, starter: Path, tmp_path: Path
):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF")
    assert makes_vectors(str(ranker_path))
    assert not makes_vectors(str(starter))
    assert not makes_vectors(str(damaged))
