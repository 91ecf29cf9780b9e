"""N-gram guesses: the policy by itself, and that replies are what they are without it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmchat.engine.protocol import (
    Constraint,
    Delta,
    Generate,
    RawText,
    RawTokens,
    Tokenize,
    Tokenized,
)
from llmchat.engine.worker.speculation import MOST, Costs, Drafter
from llmchat.values import Sampling, Wants
from tests.engine.worker.driver import Asked, Driver


def test_what_followed_the_same_words_is_guessed():
    drafter = Drafter()
    words = [1, 2, 3, 4, 5, 6, 9, 1, 2, 3]
    assert drafter.propose(words, 3) == [4, 5, 6]
    # The longer match counts: behind 2, 3 stands 4, behind 9, 3 nothing did.
    assert drafter.propose([*words, 4], 2) == [5, 6]


def test_new_words_give_no_guess_and_short_ones_no_error():
    assert Drafter().propose([1, 2, 3, 4, 5], 4) == []
    for length in range(4):
        assert Drafter().propose(list(range(length)), 4) == []


def test_a_repetition_is_guessed_beyond_the_end():
    assert Drafter().propose([7, 8, 7, 8, 7, 8], 5) == [7, 8, 7, 8, 7]
    assert Drafter().propose([5, 5, 5, 5], 3) == [5, 5, 5]


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 8))
def test_learning_bit_by_bit_is_learning_at_once(tokens, count):
    step, whole = Drafter(), Drafter()
    for end in range(len(tokens)):
        step.propose(tokens[:end], count)
    guess = step.propose(tokens, count)
    assert guess == whole.propose(tokens, count)
    assert len(guess) in (0, count)


def test_nothing_is_guessed_before_a_step_was_measured_nor_where_it_does_not_pay():
    costs = Costs()
    assert costs.worth(1, 0.99, 8) == 0
    for _ in range(20):
        costs.observe(1, 0, 0.010)
        costs.observe(1, 2, 0.030)  # a further row costs as much as a step: a slow CPU
    assert costs.worth(1, 0.6, 8) == 0
    assert costs.worth(1, 0.6, 0) == 0


def test_more_is_guessed_where_rows_are_cheap_and_guesses_right():
    costs = Costs()
    for _ in range(20):
        costs.observe(1, 0, 0.010)
        costs.observe(1, 4, 0.011)  # a GPU
    counts = [costs.worth(1, chance, MOST) for chance in (0.1, 0.5, 0.8, 0.95)]
    assert counts == sorted(counts)
    assert counts[0] >= 1
    assert counts[-1] == MOST
    # Beside many others a guess that fails is paid by all of them.
    for _ in range(20):
        costs.observe(16, 0, 0.012)
    assert costs.worth(16, 0.5, MOST) < counts[1]


def test_a_reply_that_is_not_copied_stops_guessing_and_tries_again_later():
    costs, drafter = Costs(), Drafter()
    for _ in range(20):
        costs.observe(1, 0, 0.010)
        costs.observe(1, 1, 0.0135)
    tries = 0
    for _ in range(200):
        count = costs.worth(1, drafter.chance, 4)
        tries += bool(count)
        if count:
            drafter.observe(count, 0)
        else:
            drafter.forgive()
            costs.forgive()
    assert 0 < tries < 60


COPY = "The ship left the harbour at dawn, and nobody on the pier said a word.\n" * 3


WISHES: tuple[Literal["off", "ngram"], ...] = ("off", "ngram")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guess four tokens whatever steps cost on this machine now."""
    monkeypatch.setattr(Costs, "worth", lambda _self, _replies, _chance, most: min(4, most))


@pytest.fixture
def fresh(starter: Path) -> Iterator[Driver]:
    """A worker that nobody asked before.

    Rows of batches of different sizes differ by noise: what others had read would decide which of
    two tokens that are as likely is chosen.
    """
    driver = Driver(starter, Wants(n_ctx=1024, n_threads=1))
    yield driver
    driver.close()


def copying(speculation: Literal["off", "ngram"], sampling: Sampling, **more: Any) -> Generate:
    asked = Generate(
        prompt=RawText(text=COPY),
        sampling=sampling,
        speculation=speculation,
        want_tokens=True,
        max_tokens=40,
    )
    return msgspec.structs.replace(asked, **more)


def prompt_tokens(worker: Driver) -> tuple[int, ...]:
    asked = Asked()
    worker.backend.submit(Tokenize(id=1, text=COPY, add_special=True), asked.emit)
    found = asked.wait().events[-1]
    assert isinstance(found, Tokenized)
    return found.tokens


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.0),
        Sampling(temperature=0.6, seed=11),
        Sampling(temperature=0.8, seed=5, repeat_penalty=1.1, dry_multiplier=0.5),
        Sampling(temperature=0.0, mirostat=2, seed=3),
    ],
    ids=["greedy", "seeded", "penalties", "mirostat"],
)
@pytest.mark.usefixtures("eager")
def test_the_reply_is_the_same_and_takes_fewer_steps(fresh: Driver, sampling):
    worker = fresh
    worker.ask(copying("off", sampling, max_tokens=1)).wait()  # both find the prompt read alike
    steps, texts, tokens = [], [], []
    for speculation in WISHES:
        before = worker.backend.status().step
        asked = worker.ask(copying(speculation, sampling)).wait()
        steps.append(worker.backend.status().step - before)
        texts.append(asked.text())
        tokens.append(asked.finished().tokens)
        heard = [i.token for e in asked.events if isinstance(e, Delta) for i in e.tokens]
        assert tuple(heard[: len(tokens[-1])]) == tokens[-1]
    assert texts[0] == texts[1]
    assert tokens[0] == tokens[1]
    if not sampling.repeat_penalty:  # which keeps it from copying
        assert steps[1] < steps[0] / 2


@pytest.mark.usefixtures("eager")
def test_limits_stops_and_grammars_hold_in_the_middle_of_a_guess(worker: Driver):
    greedy = Sampling(temperature=0.0)
    whole = worker.ask(copying("off", greedy)).wait().text()
    for limit in (1, 7, 20):
        asked = worker.ask(copying("ngram", greedy, max_tokens=limit)).wait()
        assert asked.finished().usage.completion_tokens == limit
        assert whole.startswith(asked.text())
    stop = whole[len(whole) // 2 :][:6]
    asked = worker.ask(copying("ngram", greedy, stop=(stop,))).wait()
    assert asked.finished().reason == "stop"
    assert asked.text() == whole[: whole.index(stop)]
    for speculation in WISHES:
        rule = Constraint(kind="regex", text="(alpha, beta, ){4}end")
        asked = worker.ask(copying(speculation, greedy, constraint=rule)).wait()
        assert asked.text() == "alpha, beta, " * 4 + "end"


@pytest.mark.usefixtures("eager")
def test_what_was_guessed_leaves_nothing_in_the_memory(worker: Driver):
    """The next turn goes on from the reply: whatever was computed for nothing is gone."""
    greedy = Sampling(temperature=0.0)
    whole = worker.ask(copying("off", greedy, max_tokens=60)).wait().text()
    first = worker.ask(copying("ngram", greedy)).wait()
    read = RawTokens(tokens=(*prompt_tokens(worker), *first.finished().tokens))
    second = worker.ask(Generate(prompt=read, sampling=greedy, max_tokens=20)).wait()
    assert first.text() + second.text() == whole
    assert second.finished().usage.from_memory == len(read.tokens) - 1


@pytest.mark.usefixtures("eager")
def test_several_replies_guess_side_by_side(worker: Driver):
    greedy = Sampling(temperature=0.0)
    asked = [worker.ask(copying(wish, greedy, n=2)) for wish in WISHES]
    texts = {asked[n].wait().text(choice) for n in (0, 1) for choice in (0, 1)}
    assert len(texts) == 1
