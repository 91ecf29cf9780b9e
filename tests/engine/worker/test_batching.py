"""Several requests in one loop, through the real model: shared prompts, fairness, a full pool."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.engine.protocol import Delta, Finished, Generate, PromptProgress, RawText
from llmchat.values import Sampling, Wants
from tests.engine.worker.driver import Driver

pytestmark = pytest.mark.model
GREEDY = Sampling(temperature=0)


@pytest.fixture
def small(starter: Path) -> Iterator[Driver]:
    """A worker whose pool is small enough to fill."""
    driver = Driver(starter, Wants(n_ctx=256, n_threads=1, n_batch=64))
    yield driver
    driver.close()


def story(words: int, lead: str = "A") -> RawText:
    return RawText(text=f"{lead} story: " + "the sea is wide and the boat is small " * (words // 9))


def write(prompt: RawText, tokens: int, id_: int = 1, **fields) -> Generate:
    fields.setdefault("sampling", GREEDY)
    return Generate(id=id_, prompt=prompt, max_tokens=tokens, ignore_eos=True, **fields)


def test_two_requests_write_at_the_same_time_and_a_third_joins(worker: Driver):
    first = worker.ask(write(story(20, "One"), 40))
    second = worker.ask(write(story(20, "Two"), 40, 2))
    second.until(lambda events: any(isinstance(event, Delta) for event in events))
    third = worker.ask(write(story(20, "Three"), 10, 3))
    for asked, count in ((first, 40), (second, 40), (third, 10)):
        assert asked.wait().finished().usage.completion_tokens == count
    # The later ones did not wait for the first to end.
    end_of_first = first.times[-1]
    assert second.times[0] < end_of_first
    assert next(
        time
        for event, time in zip(third.events, third.times, strict=True)
        if isinstance(event, Delta)
    ) < max(end_of_first, second.times[-1])


def test_the_second_turn_reads_only_what_is_new(worker: Driver):
    prompt = story(90, "Memory")
    first = worker.ask(write(prompt, 8)).wait()
    longer = RawText(text=prompt.text + first.text() + " And then?")
    second = worker.ask(write(longer, 4)).wait().finished()
    assert second.usage.from_memory >= first.finished().usage.prompt_tokens
    assert second.usage.read < 12
    assert second.usage.from_memory + second.usage.read == second.usage.prompt_tokens


def test_a_reused_prefix_gives_the_answer_of_a_fresh_read(worker: Driver):
    prompt = story(80, "Again")
    fresh = worker.ask(write(prompt, 12)).wait()
    worker.ask(write(RawText(text=prompt.text + " More words here."), 4)).wait()
    again = worker.ask(write(prompt, 12)).wait()
    assert again.finished().usage.from_memory > 0
    assert again.text() == fresh.text()


def test_alternatives_share_one_read_and_differ(worker: Driver):
    prompt = story(60, "Many")
    request = write(prompt, 10, n=4, sampling=Sampling(temperature=1.5, seed=7))
    asked = worker.ask(request).wait()
    done = [asked.finished(choice) for choice in range(4)]
    assert len({asked.text(choice) for choice in range(4)}) > 1
    assert {finished.seed for finished in done} == {7, 8, 9, 10}
    progress = [event.done for event in asked.events if isinstance(event, PromptProgress)]
    assert progress == sorted(progress)
    assert progress[-1] == done[0].usage.prompt_tokens


def test_a_full_pool_evicts_idle_ones_and_then_the_youngest_gives_way(small: Driver):
    pool = small.facts.pool
    per_request = small.facts.n_ctx - 40
    together = pool // per_request + 2
    asked = [
        small.ask(write(story(90, f"Number {place}"), 110, place + 1)) for place in range(together)
    ]
    for one in asked:
        assert one.wait().finished().usage.completion_tokens == 110
    # What gave way and was read again wrote the same as alone.
    alone = small.ask(write(story(90, f"Number {together - 1}"), 110)).wait()
    assert alone.finished().usage.completion_tokens == 110
    assert small.backend.status().n_ctx_used <= pool


def test_one_cancel_leaves_the_others_alone(worker: Driver):
    kept, gone = (worker.ask(write(story(20, lead), 40, id_)) for id_, lead in ((1, "K"), (2, "G")))
    gone.until(lambda events: any(isinstance(event, Delta) for event in events))
    gone.cancel()
    assert gone.wait().finished().reason == "cancelled"
    assert kept.wait().finished().usage.completion_tokens == 40


def test_a_neighbour_goes_on_while_a_long_prompt_is_read(worker: Driver):
    writer = worker.ask(write(story(10, "W"), 200))
    writer.until(lambda events: sum(isinstance(event, Delta) for event in events) >= 5)
    reader = worker.ask(write(story(800, "R"), 2, 2))
    reader.wait()
    start, end = reader.times[0], reader.times[-1]
    between = [
        time
        for event, time in zip(writer.events, writer.times, strict=True)
        if isinstance(event, Delta) and start < time < end
    ]
    assert len(between) >= 5
    writer.cancel()
    writer.wait()


def test_leaving_ends_every_request(starter: Path):
    driver = Driver(starter, Wants(n_ctx=256, n_threads=1))
    asked = [driver.ask(write(story(20, f"L{place}"), 200, place + 1)) for place in range(3)]
    asked[0].until(lambda events: any(isinstance(event, Delta) for event in events))
    driver.close()
    for one in asked:
        one.wait()
        last = one.events[-1]
        assert not isinstance(last, Finished) or last.reason == "cancelled"
