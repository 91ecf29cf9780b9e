"""What a worker has read outlives it: the next one goes on from the disk, bit for bit."""

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmchat.engine.disk import Folder
from llmchat.engine.protocol import Delta, RawText, TokenInfo
from llmchat.engine.worker import saving
from llmchat.engine.worker.memory import Kept
from llmchat.engine.worker.memory.saved import Brought
from llmchat.values import Usage, Wants
from tests.engine.worker.driver import Asked, Driver
from tests.engine.worker.gemma import gemma
from tests.engine.worker.test_batching import story, write

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
WANTS = Wants(n_ctx=1024, n_threads=1)
WORTH_IT = 290
"""Words, about as many tokens: a little more than the least that is written."""
PROMPT = story(WORTH_IT, "Disk")
OTHER = RawText(text=PROMPT.text + " Suddenly")


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


def new_folder(path: Path) -> Path:
    Folder(path).set_budget(10**9)
    return path


@pytest.fixture
def kv(tmp_path: Path) -> Path:
    """An empty one."""
    return new_folder(tmp_path / "kv")


@pytest.fixture(scope="module")
def read_once(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a worker which read PROMPT has left."""
    path = new_folder(tmp_path_factory.mktemp("read") / "kv")
    with a_worker(starter, path) as worker:
        ask(worker, PROMPT, tokens=1)
    return path


@pytest.fixture
def left(read_once: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(read_once, tmp_path / "left"))


def test_from_disk_equals_from_memory_to_the_last_bit(starter: Path, left: Path):
    with a_worker(starter, left) as second:
        from_disk = ask(second, OTHER)
    with a_worker(starter, None) as third:
        ask(third, PROMPT, tokens=1)
        from_memory = ask(third, OTHER)
    assert usage(from_disk).from_disk == usage(from_memory).from_memory > 256
    assert usage(from_disk).from_memory == usage(from_memory).from_disk == 0
    assert len(chosen(from_disk)) == 12
    assert chosen(from_disk) == chosen(from_memory)


def test_a_few_more_tokens_are_not_worth_another_write(starter: Path, left: Path):
    before = Folder(left).entries()
    with a_worker(starter, left) as worker:
        assert usage(ask(worker, OTHER)).from_disk > 256
    after = Folder(left).entries()
    assert [meta.name for meta in after] == [meta.name for meta in before]
    assert after[0].used > before[0].used


def test_another_kv_type_reads_for_itself(starter: Path, left: Path):
    with a_worker(starter, left, replace(WANTS, cache_type_k="q8_0")) as worker:
        assert usage(ask(worker, PROMPT, "two", tokens=1)).from_disk == 0
    assert Folder(left).kept().entries == 2


def test_what_llama_cpp_refuses_is_forgotten(
    starter: Path, left: Path, monkeypatch: pytest.MonkeyPatch
):
    """A state that is whole but of no use: the prompt is read, and nobody tries it again."""
    take = Brought.take

    def spoilt(brought: Brought, tokens: Sequence[int]) -> Kept | None:
        kept = take(brought, tokens)
        assert kept is not None
        return replace(kept, state=kept.state[:-1000].copy())  # too short for llama.cpp

    monkeypatch.setattr(Brought, "take", spoilt)
    with a_worker(starter, left) as worker:
        again = ask(worker, PROMPT, tag="")
        assert usage(again).from_disk == 0
        assert Folder(left).kept().entries == 0


@pytest.mark.torture
def test_damage_means_reading_the_prompt(starter: Path, left: Path):
    state = next(left.glob("*.state"))
    data = bytearray(state.read_bytes())
    data[random.Random(1).randrange(len(data))] ^= 4
    state.write_bytes(data)
    with a_worker(starter, left) as worker:
        again = ask(worker, PROMPT)
        assert usage(again).from_disk == 0
    with a_worker(starter, None) as alone:
        assert chosen(again) == chosen(ask(alone, PROMPT))


def test_what_has_no_tag_or_is_short_is_not_written(starter: Path, kv: Path):
    with a_worker(starter, kv) as worker:
        ask(worker, story(WORTH_IT, "Secret"), tag="")
        ask(worker, story(100, "Short"))
    assert Folder(kv).kept().size == 0


def test_a_quiet_conversation_is_saved_while_the_worker_lives(
    starter: Path, kv: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(saving, "QUIET", 0.05)
    with a_worker(starter, kv) as worker:
        ask(worker, story(WORTH_IT, "Quiet"))
        _until_saved(kv)


def _until_saved(kv: Path) -> None:
    deadline = time.monotonic() + 60
    while not Folder(kv).kept().entries:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_sliding_window_comes_back_whole(kv: Path, monkeypatch: pytest.MonkeyPatch):
    """The state holds one window, 512 tokens: it goes on where it ended."""
    monkeypatch.setattr(saving, "QUIET", 0.05)
    prompt = story(560, "Window")
    with a_worker(gemma(), kv) as first:
        fresh = ask(first, prompt)
        _until_saved(kv)
        longer = RawText(text=prompt.text + fresh.text() + " And then")
        from_memory = ask(first, longer)
    with a_worker(gemma(), kv) as second:
        from_disk = ask(second, longer)
    assert usage(from_disk).from_disk == usage(from_memory).from_memory > 550
    # Cells lie elsewhere after a restore, so sums are rounded otherwise; a wrong window is 0.7 off.
    assert difference(from_disk, from_memory) < 0.3


@pytest.mark.torture
@pytest.mark.parametrize("swa_full", [False, True])
def test_a_sliding_window_is_cut_only_where_it_may_be(kv: Path, swa_full: bool):
    wants = replace(WANTS, swa_full=swa_full)
    prompt = story(700, "Window")
    earlier = RawText(text=prompt.text[: len(prompt.text) // 2] + " No.")
    with a_worker(gemma(), kv, wants) as first:
        ask(first, prompt)
        in_memory = ask(first, earlier, "")
    with a_worker(gemma(), kv, wants) as second:
        from_disk = ask(second, earlier, "two")
    with a_worker(gemma(), None, wants) as third:
        fresh = ask(third, earlier)
    # The pool still holds what lies behind the window, or a batch of it; no state does.
    assert usage(in_memory).from_memory > 0
    assert usage(from_disk).from_disk == 0
    assert difference(in_memory, fresh) < 0.3
    assert difference(from_disk, fresh) < 0.3


def difference(one: Asked, two: Asked) -> float:
    """The largest difference between the first token's probabilities, in nats."""
    mine, yours = (
        {rival.token: rival.logprob for rival in chosen(asked)[0].rivals} for asked in (one, two)
    )
    return max(abs(mine[token] - yours[token]) for token in mine.keys() & yours.keys())
