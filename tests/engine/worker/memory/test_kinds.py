"""Every kind of memory: what is reused gives the logits of a fresh read, or is not reused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as lib

from llmchat.engine.protocol import ChatMessage, Generate, Messages
from llmchat.engine.worker.capi import CApiError, Context, Floats
from llmchat.engine.worker.loader import ModelParams, open_model
from llmchat.engine.worker.log import Level, LogRing
from llmchat.values import Sampling, Wants
from tests.engine.worker.driver import Asked, Driver
from tests.engine.worker.memory import tiny
from tests.engine.worker.memory.reader import Reader

STATEFUL = ("recurrent", "hybrid")


@pytest.fixture(scope="module", params=list(tiny.MAKERS))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / f"{request.param}.gguf"
    tiny.MAKERS[request.param](path)
    return path


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[object]:
    log = LogRing(echo=Level.CONT)
    log.install()
    pointer = open_model([str(path)], ModelParams(n_gpu_layers=0), log)
    yield pointer
    lib.llama_model_free(pointer)


@pytest.fixture
def reader(model) -> Iterator[Reader]:
    reader = Reader(model, n_ctx=1024)
    yield reader
    reader.close()


def words(seed: int, count: int) -> list[int]:
    found: list[int] = np.random.default_rng(seed).integers(262, len(tiny.WORDS), count).tolist()
    return found


def fresh(model, tokens: list[int]) -> Floats:
    reader = Reader(model, n_ctx=1024)
    try:
        return reader.read(tokens)
    finally:
        reader.close()


def apart(one: Floats, two: Floats) -> float:
    assert np.isfinite(one).all()
    return float(np.abs(one - two).max())


@pytest.fixture(scope="module")
def noise(model) -> float:
    """What the same rows in other batches change: float sums in another order, nothing else."""
    reader = Reader(model, n_ctx=1024)
    try:
        cut = reader.read(STORY, marks=[7, 31, 90, 150, 199])
        return 3 * max(1e-4, apart(cut, fresh(model, STORY)))
    finally:
        reader.close()


STORY = words(1, 200)
OTHER = [*STORY[:120], *words(2, 40)]


def test_one_other_word_far_back_shows(model, noise: float):
    """Else none of the tests below would see a wrong state."""
    changed = [*STORY[:100], tiny.WORDS.index("!"), *STORY[101:130]]
    assert apart(fresh(model, STORY[:130]), fresh(model, changed)) > 3 * noise


def test_another_end_goes_on_from_the_last_checkpoint(
    model, noise: float, reader: Reader, path: Path
):
    reader.read(STORY, marks=[90, 150])
    logits = reader.read(OTHER)
    assert reader.reused == (90 if path.stem in STATEFUL else 120)
    assert apart(logits, fresh(model, OTHER)) < noise
    longer = [*STORY, *words(3, 10)]
    logits = reader.read(longer)  # the first one is still whole: it was copied from
    assert reader.reused == 200
    assert apart(logits, fresh(model, longer)) < noise


def test_without_a_checkpoint_a_state_is_not_cut(model, noise: float, reader: Reader, path: Path):
    reader.read(STORY)
    logits = reader.read(OTHER)
    assert reader.reused == (0 if path.stem in STATEFUL else 120)
    assert apart(logits, fresh(model, OTHER)) < noise


def test_a_running_sequence_is_copied_from_and_goes_on(model, noise: float, reader: Reader):
    slot, _ = reader.open(STORY, marks=[90])
    other, logits = reader.open(OTHER)
    assert other is not slot
    assert reader.reused >= 90
    assert apart(logits, fresh(model, OTHER)) < noise
    longer = [*STORY, *words(3, 5)]
    assert apart(reader.go_on(slot, longer), fresh(model, longer)) < noise


def test_parked_with_its_checkpoints_and_back(model, noise: float, reader: Reader, path: Path):
    reader.read(STORY, marks=[90])
    (slot,) = reader.table.idle()
    reader.table.park(slot)
    assert reader.context.pos_max(slot.seq) == -1
    logits = reader.read(OTHER)
    assert reader.reused == (90 if path.stem in STATEFUL else 120)
    assert apart(logits, fresh(model, OTHER)) < noise
    longer = [*STORY, *words(3, 10)]
    logits = reader.read(longer)
    assert reader.reused == 200
    assert apart(logits, fresh(model, longer)) < noise


def test_a_decode_that_broke_leaves_nothing_wrong(model, noise: float, reader: Reader):
    slot, _ = reader.open(STORY[:150], marks=[90])
    reader.context.batch.clear()
    reader.context.batch.add(words(9, 20), 150, slot.seq, output=True)
    reader.context.abort()
    reader.context.decode()
    reader.context.abort(False)
    reader.table.repair(slot, STORY, reader.context.pos_max(slot.seq) + 1)
    assert apart(reader.go_on(slot, STORY), fresh(model, STORY)) < noise


def test_a_recurrent_sequence_takes_no_cells(reader: Reader, path: Path):
    reader.read(STORY)
    assert reader.table.pool.used == (0 if path.stem == "recurrent" else 200)


def test_positions_are_shifted_only_where_the_memory_says_it_can(reader: Reader, path: Path):
    """`seq_add` on M-RoPE ends the process at the next decode; the wrapper asks first."""
    context: Context = reader.context
    reader.read(STORY)
    assert context.can_shift == (path.stem != "mrope")
    (slot,) = reader.table.idle()
    if context.can_shift:
        context.seq_add(slot.seq, 0, -1, 1)
        assert context.pos_max(slot.seq) == len(STORY)
    else:
        with pytest.raises(CApiError):
            context.seq_add(slot.seq, 0, -1, 1)


# through the loop


@pytest.fixture
def driver(path: Path) -> Iterator[Driver]:
    driver = Driver(path, Wants(n_ctx=1024, n_threads=1))
    yield driver
    driver.close()


def test_the_memory_says_itself_whether_it_can_be_cut(driver: Driver, path: Path):
    assert driver.backend._opened is not None
    assert driver.backend._opened.loaded.cuts == (path.stem not in STATEFUL)


def chat(driver: Driver, *turns: str, n: int = 8) -> Asked:
    roles = ["system", *["user", "assistant"] * len(turns)]
    messages = tuple(
        ChatMessage(role=role, content=text) for role, text in zip(roles, turns, strict=False)
    )
    request = Generate(
        id=1, prompt=Messages(messages=messages), sampling=Sampling(temperature=0),
        max_tokens=n, ignore_eos=True,
    )  # fmt: skip
    return driver.ask(request).wait()


SYSTEM = "Be brief, be kind, and never say what you do not know."
FIRST = "Tell me about the sea, the wind and the boats."


def test_turns_whose_thinking_left_history_go_on_from_their_boundary(driver: Driver, path: Path):
    """The template opens with `<think>` and shows none of it later: every turn diverges there."""
    first = chat(driver, SYSTEM, FIRST)
    prompt = first.finished().usage.prompt_tokens
    again = chat(driver, SYSTEM, FIRST)
    usage = again.finished().usage
    assert again.finished().tokens == first.finished().tokens
    assert prompt - 30 < usage.from_memory < prompt
    second = chat(driver, SYSTEM, FIRST, "It is deep.", "And the wind?")
    usage = second.finished().usage
    assert usage.from_memory > prompt - 30
    assert usage.from_memory + usage.read == usage.prompt_tokens
    alone = Driver(path, Wants(n_ctx=1024, n_threads=1))
    try:
        unshared = chat(alone, SYSTEM, FIRST, "It is deep.", "And the wind?")
    finally:
        alone.close()
    assert unshared.finished().usage.from_memory == 0
    assert unshared.finished().tokens == second.finished().tokens


def test_a_system_prompt_serves_another_conversation(driver: Driver):
    chat(driver, SYSTEM, FIRST)
    other = chat(driver, SYSTEM, "Who are you?").finished().usage
    assert other.from_memory >= len(SYSTEM)


def test_alternatives_share_the_prompt(driver: Driver):
    request = Generate(
        id=1, prompt=Messages(messages=(ChatMessage(role="user", content=FIRST),)), n=3,
        sampling=Sampling(temperature=0), max_tokens=6, ignore_eos=True,
    )  # fmt: skip
    asked = driver.ask(request).wait()
    tokens = [asked.finished(choice).tokens for choice in range(3)]
    alone = chat(driver, SYSTEM, FIRST)
    assert tokens[0] == tokens[1] == tokens[2]
    assert alone.finished().reason == "length"
