"""Embedding models and rerankers built like chat models, against their NumPy forward pass."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmchat.engine.protocol import Embed, Rerank, Reranked, Tokenize, Tokenized
from llmchat.engine.worker import sizes
from llmchat.engine.worker.capi import OK, Batch
from llmchat.engine.worker.main import makes_vectors
from llmchat.engine.worker.vectors.computing import Job, Vectors
from llmchat.errors import EngineError
from llmchat.gguf import describe, read_header
from llmchat.values import Wants
from tests import decoders
from tests.decoders import IM_END, TEMPLATE, Decoder
from tests.engine.worker.driver import Asked
from tests.engine.worker.test_vectors import VectorDriver, vectors

TEXTS = (
    "a cat sits on the car",
    "dog",
    "Naïve café — 漢字, c c",
    "word  cab " * 12,
    "code" * 60,
)
QUERY = "cats? and cars"
MADE = {
    "last": decoders.embedder,
    "mean": decoders.gemma_embedding,
    "rank": decoders.reranker,
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("decoders")
    return {kind: made().write(folder / f"{kind}.gguf") for kind, made in MADE.items()}


@pytest.fixture(scope="module")
def drivers(paths: dict[str, Path]) -> Iterator[dict[str, VectorDriver]]:
    found: dict[str, VectorDriver] = {}
    try:
        for kind, path in paths.items():
            found[kind] = VectorDriver(path)
        yield found
    finally:
        for driver in found.values():
            driver.close()


def scores(driver: VectorDriver, query: str, *documents: str, truncate: bool = False):
    asked = driver.asked(Rerank(id=1, query=query, documents=documents, truncate=truncate))
    answer = asked.events[-1]
    assert isinstance(answer, Reranked), answer
    return answer.scores


def shown(query: str, document: str) -> str:
    return TEMPLATE.replace("{query}", query).replace("{document}", document)


@pytest.mark.parametrize("kind", ["last", "mean"])
def test_tokens_and_vectors_are_those_of_the_paper(drivers: dict[str, VectorDriver], kind: str):
    model, driver = MADE[kind](), drivers[kind]
    assert driver.facts.capabilities == ("embedding",)
    assert (driver.facts.n_embd, driver.facts.n_ctx) == (decoders.WIDTH, decoders.N_CTX)
    for text in TEXTS:
        told = driver.asked(Tokenize(id=1, text=text, add_special=True)).events[-1]
        assert isinstance(told, Tokenized)
        assert list(told.tokens) == model.around(text)
    found = vectors(driver.asked(Embed(id=1, texts=TEXTS)))
    plain = vectors(driver.asked(Embed(id=1, texts=TEXTS, normalize=False)))
    for text, unit, raw in zip(TEXTS, found, plain, strict=True):
        ids = model.around(text)
        assert np.allclose(unit, model.embed(ids), atol=1e-3), text
        assert np.allclose(raw, model.embed(ids, unit=False), atol=1e-2), text
    assert abs(found[0] @ found[1]) < 0.95, "texts differ"


@pytest.mark.parametrize("kind", ["last", "mean"])
def test_many_texts_in_a_step_are_what_each_alone_is(drivers: dict[str, VectorDriver], kind: str):
    texts = tuple(f"text {'x' * (n % 7)} number " + "and more " * (n % 9) for n in range(150))
    together = vectors(drivers[kind].asked(Embed(id=1, texts=texts)))
    model = MADE[kind]()
    for number in (0, 1, 63, 64, 149):
        assert together[number] @ model.embed(model.around(texts[number])) > 0.9999


def test_nothing_is_put_behind_a_text_where_the_vocabulary_does_not_ask(tmp_path: Path):
    model = decoders.embedder(adds_end=False)
    driver = VectorDriver(model.write(tmp_path / "bare.gguf"))
    try:
        found = vectors(driver.asked(Embed(id=1, texts=TEXTS)))
        for text, vector in zip(TEXTS, found, strict=True):
            assert vector @ model.embed(model.plain(text)) > 0.9999
        failed = driver.asked(Embed(id=1, texts=("a", ""))).failed()
        assert (failed.code, failed.message[:16]) == ("bad_request", "Text 2 is empty,")
        assert len(vectors(driver.asked(Embed(id=1, texts=("a",))))) == 1
    finally:
        driver.close()


def test_scores_are_the_share_of_yes_behind_the_models_own_template(
    drivers: dict[str, VectorDriver],
):
    model, driver = decoders.reranker(), drivers["rank"]
    assert driver.facts.capabilities == ("rerank",)
    expected = [model.score(model.marked(shown(QUERY, text))) for text in TEXTS]
    assert scores(driver, QUERY, *TEXTS) == pytest.approx(expected, abs=1e-3)
    assert max(expected) - min(expected) > 0.1
    assert isinstance(driver.asked(Rerank(id=1, query="", documents=("",))).events[-1], Reranked)


def test_what_somebody_wrote_is_no_sign_of_the_template(drivers: dict[str, VectorDriver]):
    model = decoders.reranker()
    query, document = f"a{IM_END}c {{document}}", "the car {query}"
    first, rest = TEMPLATE.split("{query}")
    between, last = rest.split("{document}")
    ids = model.marked(first) + model.plain(query) + model.marked(between + document + last)
    (found,) = scores(drivers["rank"], query, document)
    assert found == pytest.approx(model.score(ids), abs=1e-3)
    assert abs(found - model.score(model.marked(shown(query, document)))) > 0.01


def test_a_pair_is_cut_in_its_document(drivers: dict[str, VectorDriver]):
    model, driver = decoders.reranker(), drivers["rank"]
    document, limit = "a car c" * 200, decoders.N_CTX
    tokens = len(model.marked(shown(QUERY, document)))
    failed = driver.asked(Rerank(id=1, query=QUERY, documents=(document,))).failed()
    assert failed.code == "context_exceeded"
    assert f"Text 1 has {tokens} tokens; the model takes {limit}" in failed.message
    before, after = TEMPLATE.replace("{query}", QUERY).split("{document}")
    closing = model.marked(after)
    cut = model.marked(before + document)[: limit - len(closing)] + closing
    (found,) = scores(driver, QUERY, document, truncate=True)
    assert found == pytest.approx(model.score(cut), abs=1e-3)


def test_a_query_that_leaves_no_room_is_refused_even_where_a_cut_is_allowed(
    drivers: dict[str, VectorDriver],
):
    work = Rerank(id=1, query="q" * decoders.N_CTX, documents=("a",), truncate=True)
    assert drivers["rank"].asked(work).failed().code == "context_exceeded"


@pytest.mark.parametrize("kind", ["last", "mean"])
@pytest.mark.parametrize("n_batch", [None, 100])
def test_a_text_longer_than_a_batch(paths: dict[str, Path], kind: str, n_batch: int | None):
    model = MADE[kind]()
    texts = ("a cab ", "a cab on the code " * 50, "the cat " * 40, "dog")
    driver = VectorDriver(paths[kind], Wants(n_threads=1, n_batch=n_batch))
    try:
        found = vectors(driver.asked(Embed(id=1, texts=texts)))
        for text, vector in zip(texts, found, strict=True):
            assert vector @ model.embed(model.around(text)) > 0.999, len(text)
        failed = driver.asked(Embed(id=1, texts=("a" * 2000,))).failed()
        assert failed.code == "context_exceeded"
    finally:
        driver.close()


def test_a_pair_longer_than_a_batch(paths: dict[str, Path]):
    model = decoders.reranker()
    driver = VectorDriver(paths["rank"], Wants(n_threads=1, n_batch=100))
    try:
        found = scores(driver, QUERY, *TEXTS)
        expected = [model.score(model.marked(shown(QUERY, text))) for text in TEXTS]
        assert found == pytest.approx(expected, abs=1e-3)
    finally:
        driver.close()


class Counting:
    """A context that computes nothing, and is told when to be asked to stop."""

    n_seq_max = 4

    def __init__(self, n_rows: int) -> None:
        self.batch = Batch(n_rows)
        self.sizes: list[int] = []
        self.when_decoded: Callable[[], None] = lambda: None

    def decode(self) -> int:
        self.sizes.append(self.batch.n)
        self.when_decoded()
        return OK

    def abort(self, value: bool = True) -> None:
        """Not every device can."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def clear_memory(self) -> None:
        """Nothing to forget."""


def test_a_long_text_is_given_up_between_two_batches():
    context: Any = Counting(4)
    work = Vectors(context, width=1, packed=4)
    asked = Asked()
    job = Job(Embed(id=1, texts=("",)), asked.emit, [list(range(18))])
    work.add(job)

    def cancel() -> None:
        if len(context.sizes) == 2:
            work.cancel(job)

    context.when_decoded = cancel
    work.turn()
    work.turn()
    assert context.sizes == [4, 4]
    assert asked.failed().code == "cancelled"
    assert not work.busy


@pytest.mark.parametrize("kind", list(MADE))
def test_what_is_planned_is_what_is_taken(drivers: dict[str, VectorDriver], kind: str):
    driver = drivers[kind]
    opened = driver.backend._opened
    assert opened is not None
    taken = sizes.breakdown(opened.loaded.context.pointer)
    assert taken is not None
    assert driver.plan is not None
    assert driver.plan.needs == {name: size.total for name, size in taken.items()}


def test_a_reranker_without_its_classifier_is_refused(tmp_path: Path):
    model = decoders.reranker()
    del model.weights["cls.output.weight"]
    with pytest.raises(EngineError, match="file has no classifier"):
        VectorDriver(model.write(tmp_path / "headless.gguf"))


def test_the_header_tells_them_from_chat_models(paths: dict[str, Path]):
    assert all(makes_vectors(str(path)) for path in paths.values())
    assert describe(read_header(paths["last"])).capabilities == ("embedding",)
    assert describe(read_header(paths["mean"])).capabilities == ("embedding", "swa")
    assert describe(read_header(paths["rank"])).capabilities == ("rerank",)


def test_the_reference_looks_where_the_models_look():
    causal, both = decoders.embedder(), decoders.gemma_embedding()

    def first_row_moves(model: Decoder, ids: list[int]) -> bool:
        return not np.allclose(model.hidden(ids)[0], model.hidden([*ids, 7])[0], atol=1e-6)

    assert not first_row_moves(causal, causal.plain("abc"))
    assert first_row_moves(both, both.plain("abc"))
