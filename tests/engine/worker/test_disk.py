"""What a worker has read outlives it: the next one goes on from the disk, bit for bit."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmchat.engine.disk import Folder
from llmchat.engine.protocol import Delta, RawText, TokenInfo
from llmchat.engine.worker import saving
from llmchat.engine.worker.memory.saved import Saved
from llmchat.values import Usage, Wants
from tests.engine.worker.driver import Asked, Driver
from tests.engine.worker.gemma import gemma
from tests.engine.worker.test_batching import story, write

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
WANTS = Wants(n_ctx=1024, n_threads=1)


@pytest.fixture
def kv(tmp_path: Path) -> Path:
    Folder(tmp_path / "kv").set_budget(10**9)
    return tmp_path / "kv"


@contextmanager
def a_worker(model: Path, kv: Path | None, wants: Wants = WANTS) -> Iterator[Driver]:
    driver = Driver(model, wants, kv=kv)
    try:
        yield driver
    finally:
        driver.close()


def ask(driver: Driver, prompt: RawText, tag: str = "one", tokens: int = 12) -> Asked:
    return driver.ask(write(prompt, tokens, tag=tag, top_logprobs=5)).wait()


def usage(asked: Asked) -> Usage:
    found = asked.finished().usage
    assert found.prompt_tokens == found.from_memory + found.from_disk + found.read
    return found


def chosen(asked: Asked) -> list[TokenInfo]:
    """Every token with the exact probabilities of itself and its rivals."""
    return [info for event in asked.events if isinstance(event, Delta) for info in event.tokens]


def test_the_next_worker_goes_on_bit_for_bit(starter: Path, kv: Path):
    prompt = story(330, "Disk")
    with a_worker(starter, kv) as first:
        fresh = ask(first, prompt)
        longer = RawText(text=prompt.text + fresh.text() + " And so")
        warm = ask(first, longer)
        assert usage(warm).from_disk == 0
        assert usage(warm).from_memory > 300
    with a_worker(starter, kv) as second:
        cold = ask(second, longer)
    assert usage(cold).from_memory == 0
    assert usage(cold).from_disk > 300
    # What it went on from is a little more than the first had then: its own reply as well.
    assert usage(cold).read <= usage(warm).read
    with a_worker(starter, kv) as third:
        again = ask(third, longer)
    assert usage(again) == usage(cold)
    assert chosen(again) == chosen(cold)
    assert cold.text() == warm.text()


def test_from_disk_equals_from_memory_to_the_last_bit(starter: Path, kv: Path):
    prompt = story(330, "Bits")
    with a_worker(starter, kv) as first:
        ask(first, prompt, tokens=1)
    with a_worker(starter, kv) as second:
        other = RawText(text=prompt.text + " Suddenly")
        from_disk = ask(second, other)
    with a_worker(starter, None) as third:
        ask(third, prompt, tokens=1)
        from_memory = ask(third, other)
    assert usage(from_disk).from_disk == usage(from_memory).from_memory > 300
    assert chosen(from_disk) == chosen(from_memory)


def test_nothing_without_a_tag_or_a_budget_reaches_the_disk(starter: Path, kv: Path):
    with a_worker(starter, kv) as first:
        ask(first, story(330, "Secret"), tag="")
    assert Folder(kv).kept().size == 0
    Folder(kv).set_budget(0)
    with a_worker(starter, kv) as second:
        ask(second, story(330, "Off"))
    assert Folder(kv).kept().size == 0


def test_a_short_chat_is_not_worth_a_write(starter: Path, kv: Path):
    with a_worker(starter, kv) as first:
        ask(first, story(100, "Short"))
    assert Folder(kv).kept().entries == 0


def test_a_few_more_tokens_are_not_worth_another(starter: Path, kv: Path):
    prompt = story(330, "More")
    for _ in range(2):
        with a_worker(starter, kv) as worker:
            asked = ask(worker, prompt)
            prompt = RawText(text=prompt.text + asked.text() + " More?")
    assert Folder(kv).kept().entries == 1


def test_a_quiet_conversation_is_saved_while_the_worker_lives(
    starter: Path, kv: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(saving, "QUIET", 0.05)
    with a_worker(starter, kv) as worker:
        ask(worker, story(330, "Quiet"))
        saver = worker.backend._saver
        assert saver is not None
        _wait_for(lambda: Folder(kv).kept().entries == 1)
        ask(worker, story(330, "Other"), tag="two")
        _wait_for(lambda: Folder(kv).kept().entries == 2)


def _wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_another_kv_type_or_model_reads_for_itself(starter: Path, kv: Path):
    prompt = story(330, "Types")
    with a_worker(starter, kv) as first:
        ask(first, prompt)
    other = Wants(n_ctx=1024, n_threads=1, cache_type_k="q8_0")
    with a_worker(starter, kv, other) as second:
        assert usage(ask(second, prompt, "two")).from_disk == 0
    assert Folder(kv).kept().entries == 2


def test_damage_means_reading_the_prompt(starter: Path, kv: Path):
    prompt = story(330, "Damage")
    with a_worker(starter, kv) as first:
        fresh = ask(first, prompt)
    state = next(kv.glob("*.state"))
    data = bytearray(state.read_bytes())
    data[random.Random(1).randrange(len(data))] ^= 4
    state.write_bytes(data)
    with a_worker(starter, kv) as second:
        again = ask(second, prompt)
        assert usage(again).from_disk == 0
        assert chosen(again) == chosen(fresh)


def test_what_llama_cpp_refuses_is_forgotten(starter: Path, kv: Path):
    """A state that is whole but of no use: nothing is taken from it, twice."""
    prompt = story(330, "Refused")
    with a_worker(starter, kv) as first:
        fresh = ask(first, prompt)
    with a_worker(starter, kv) as second:
        _spoil(second)
        again = ask(second, prompt)
        assert usage(again).from_disk == 0
        assert Folder(kv).kept().entries == 0
        assert chosen(again) == chosen(fresh)


def _spoil(worker: Driver) -> None:
    """Make the states that come from the disk too short for llama.cpp."""
    assert worker.backend._opened is not None
    saved = worker.backend._opened.table.shelves[-1]
    assert isinstance(saved, Saved)
    take = saved.take

    def spoilt(tokens):
        kept = take(tokens)
        assert kept is not None
        assert saved._taken is not None
        short = replace(kept, state=kept.state[:-1000].copy())
        saved._taken = (short, saved._taken[1])
        return short

    saved.take = spoilt  # type: ignore[method-assign]


@pytest.mark.parametrize("swa_full", [False, pytest.param(True, marks=pytest.mark.torture)])
def test_a_sliding_window_comes_back_whole(kv: Path, swa_full: bool):
    """The state holds one window: it goes on where it ended, and is cut only where it may be."""
    wants = Wants(n_ctx=1024, n_threads=2, swa_full=swa_full)
    prompt = story(700, "Window")
    earlier = RawText(text=prompt.text[: len(prompt.text) // 2] + " No.")
    with a_worker(gemma(), kv, wants) as first:
        fresh = ask(first, prompt)
        longer = RawText(text=prompt.text + fresh.text() + " And then")
    with a_worker(gemma(), kv, wants) as second:
        cut = ask(second, earlier, "two")
        on = ask(second, longer)
    with a_worker(gemma(), None, wants) as third:
        cut_fresh, on_fresh = ask(third, earlier), ask(third, longer)
    assert usage(on).from_disk > 600
    assert (usage(cut).from_disk > 0) == swa_full
    # Cells lie elsewhere after a restore, so sums are rounded otherwise; a wrong window is 0.7 off.
    assert difference(on, on_fresh) < 0.3
    assert difference(cut, cut_fresh) < 0.3


def difference(one: Asked, two: Asked) -> float:
    """The largest difference between the first token's probabilities, in nats."""
    mine, yours = (
        {rival.token: rival.logprob for rival in next(iter(chosen(asked))).rivals}
        for asked in (one, two)
    )
    return max(abs(mine[token] - yours[token]) for token in mine.keys() & yours.keys())
