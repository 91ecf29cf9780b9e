"""The memory seen from outside: what replies report, through the real loop."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.engine.protocol import Generate, PromptProgress, RawTokens
from llmchat.values import Sampling, Wants
from tests.engine.worker.driver import Asked, Driver
from tests.engine.worker.memory.test_real import words

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def driver(starter: Path) -> Iterator[Driver]:
    driver = Driver(starter, Wants(n_ctx=1024, n_threads=1))
    yield driver
    driver.close()


def ask(driver: Driver, tokens: list[int], n: int = 6) -> Asked:
    request = Generate(
        id=1, prompt=RawTokens(tokens=tuple(tokens)), sampling=Sampling(temperature=0),
        max_tokens=n, ignore_eos=True,
    )  # fmt: skip
    return driver.ask(request)


def test_switching_conversations_reads_only_what_is_new(driver: Driver):
    long, short = words(21, 620), words(22, 40)
    first = ask(driver, long).wait().finished()
    assert first.usage.read == 620
    other = ask(driver, short).wait().finished()
    assert other.usage.read == 40
    status = driver.backend.status()
    assert status.parked == 1
    assert status.parked_bytes > 620 * 20_000
    assert status.n_ctx_used < 60  # nothing of the idle one lies in the pool
    asked = ask(driver, [*long, *first.tokens, 7, 8]).wait()
    usage = asked.finished().usage
    # The last token that was chosen has never been computed.
    assert (usage.from_memory, usage.from_disk, usage.read) == (625, 0, 3)
    progress = next(event for event in asked.events if isinstance(event, PromptProgress))
    assert progress.from_memory == progress.done == 625
    status = driver.backend.status()
    assert status.parked == 1  # they have changed places
    assert status.parked_bytes < 60 * 25_000


def test_the_same_again_costs_one_token_and_both_are_kept(driver: Driver):
    story = words(23, 90)
    first = ask(driver, story, 40).wait().finished()
    again = ask(driver, story, 40).wait().finished()
    assert again.usage.from_memory == 89
    # What was said first is still there: going on from it reads nothing but the new words.
    longer = ask(driver, [*story, *first.tokens, 7]).wait().finished()
    assert longer.usage.read <= 2
