"""Steps in a row that nobody looks at say what steps looked at one by one say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.engine.protocol import Generate, RawText
from llmchat.engine.worker import generation
from llmchat.values import Sampling, Wants
from tests.engine.worker.driver import Asked, Driver
from tests.engine.worker.test_generate import chat

pytestmark = pytest.mark.model
GREEDY = Sampling(temperature=0)
FREE = Sampling(temperature=1.0, seed=11)
STORY = RawText(text="Once upon a time there was a boat, and")


@pytest.fixture(scope="module")
def worker(starter: Path) -> Iterator[Driver]:
    driver = Driver(starter, Wants(n_ctx=256, n_threads=1))
    yield driver
    driver.close()


def ask(worker: Driver, *, watched: bool, prompt=STORY, **fields) -> Asked:
    return worker.ask(Generate(id=1, prompt=prompt, want_tokens=watched, **fields)).wait()


def endless(number: int) -> Generate:
    return Generate(id=number, prompt=STORY, sampling=GREEDY, ignore_eos=True, max_tokens=100)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose steps take no time: a look around only when there is a reason."""
    monkeypatch.setattr(generation, "PACE", 1e9)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("sampling", [GREEDY, FREE], ids=["greedy", "free"])
@pytest.mark.parametrize("max_tokens", [1, 2, 3, 40])
def test_the_same_words_and_ends(worker: Driver, sampling: Sampling, max_tokens: int):
    one, many = (
        ask(worker, watched=watched, sampling=sampling, max_tokens=max_tokens)
        for watched in (True, False)
    )
    assert many.text() == one.text()
    assert many.finished().tokens == one.finished().tokens
    assert many.finished().usage.completion_tokens == max_tokens
    assert many.finished().reason == one.finished().reason == "length"
    assert len(many.events) < len(one.events) or max_tokens < 4


@pytest.mark.usefixtures("unhurried")
def test_the_models_own_end_is_an_end_amid_the_steps(worker: Driver):
    prompt = chat("Say only: yes")
    one, many = (
        ask(worker, watched=watched, prompt=prompt, sampling=GREEDY, max_tokens=200)
        for watched in (True, False)
    )
    assert many.finished().reason == "stop"
    assert many.finished().tokens == one.finished().tokens
    assert many.text() == one.text()
    # What was computed is known: going on reads the last token, and nothing else.
    again = ask(worker, watched=False, prompt=prompt, sampling=GREEDY, max_tokens=1)
    assert again.finished().usage.read <= 1


@pytest.mark.usefixtures("unhurried")
def test_the_context_ends_it_at_the_last_cell(worker: Driver):
    one, many = (
        ask(worker, watched=watched, sampling=GREEDY, ignore_eos=True) for watched in (True, False)
    )
    assert many.finished().reason == one.finished().reason == "context"
    assert many.finished().tokens == one.finished().tokens


@pytest.mark.usefixtures("unhurried")
def test_alternatives_that_end_at_different_times(starter: Path):
    prompt = chat("Say hello.")
    said: list[list[tuple[tuple[int, ...], str]]] = []
    for watched in (True, False):
        # One that nobody asked before: another beginning in its memory is another rounding.
        fresh = Driver(starter, Wants(n_ctx=256, n_threads=1))
        asked = ask(fresh, watched=watched, prompt=prompt, sampling=FREE, n=3, max_tokens=60)
        said.append([(asked.finished(n).tokens, asked.text(n)) for n in range(3)])
        fresh.close()
    assert said[0] == said[1]
    assert len({len(tokens) for tokens, _ in said[0]}) > 1


@pytest.mark.usefixtures("unhurried")
def test_who_comes_leaves_or_stops_is_seen_at_once(worker: Driver):
    first = worker.ask(endless(1))
    first.until(lambda events: any(type(event).__name__ == "Delta" for event in events))
    second = worker.ask(endless(2))
    second.until(lambda events: any(type(event).__name__ == "Delta" for event in events))
    second.cancel()  # beside another: no step is broken off for it
    assert second.wait().finished().reason == "cancelled"
    assert all(type(event).__name__ != "Finished" for event in first.events)
    first.cancel()
    assert first.wait().finished().reason == "cancelled"
    assert 0 < first.finished().usage.completion_tokens < 100
