"""Every sampler of llama.cpp by its name: what it leaves of a known row, in which order."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pytest

from llmchat.engine.protocol import Delta, Generate, RawText
from llmchat.engine.worker.sampling import CANDIDATE, KNOWN, ORDER, Chain, merge
from llmchat.engine.worker.vocab import Vocab
from llmchat.values import LLAMA_CPP_SAMPLING, Sampling
from tests.engine.worker.driver import Driver

PROBABILITIES = (0.4, 0.25, 0.15, 0.1, 0.06, 0.04)
"""Of the tokens 100 to 105; the rest of the vocabulary has none to speak of."""
FIRST = 100


@pytest.fixture(scope="module")
def vocab(worker: Driver) -> Vocab:
    opened = worker.backend._opened
    assert opened is not None
    return opened.loaded.vocab


def candidates(vocab: Vocab) -> npt.NDArray[np.void]:
    rows = np.zeros(vocab.size, CANDIDATE)
    rows["id"] = np.arange(vocab.size)
    rows["logit"] = -50.0
    rows["logit"][FIRST : FIRST + len(PROBABILITIES)] = np.log(PROBABILITIES)
    return rows


@contextmanager
def chain(vocab: Vocab, sampling: Sampling, *before: int, n_ctx: int = 0) -> Iterator[Chain]:
    made = Chain(vocab, merge(sampling, Sampling()), seed=1, n_ctx=n_ctx)
    try:
        made.remember(before)
        yield made
    finally:
        made.close()


def left(vocab: Vocab, sampling: Sampling, *before: int, n_ctx: int = 0) -> dict[int, float]:
    """Probability of each token (counted from the first) that the chain leaves."""
    with chain(vocab, sampling, *before, n_ctx=n_ctx) as made:
        _, rows = made.apply(candidates(vocab))
        alive = rows[np.isfinite(rows["logit"])]
        weights = np.exp(alive["logit"] - alive["logit"].max())
        shares = weights / weights.sum()
        return {
            int(token) - FIRST: float(share)
            for token, share in zip(alive["id"], shares, strict=True)
            if share > 1e-9
        }


def only(*names: str, **values: object) -> Sampling:
    return Sampling(samplers=names, **{"temperature": 1.0, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (only("top_k", top_k=3), {0, 1, 2}),
        (only("top_p", top_p=0.7), {0, 1, 2}),
        (only("nucleus", top_p=0.6), {0, 1}),
        (only("min_p", min_p=0.3), {0, 1, 2}),
        (only("typical", typical_p=0.2), {1}),
        (only("xtc", xtc_probability=1.0, xtc_threshold=0.12), {2, 3, 4, 5}),
        (only("top-n-sigma", top_n_sigma=0.3), {0, 1}),
        (only("temp"), set(range(6))),
        (only("top_k", "min-p", top_k=4, min_p=0.5), {0, 1}),
    ],
)
def test_what_a_sampler_leaves(vocab: Vocab, sampling: Sampling, kept: set[int]):
    if sampling.top_n_sigma is not None:
        # It counts in standard deviations of all logits: most of them are the same here.
        assert len(left(vocab, sampling)) < vocab.size
        assert 0 in left(vocab, sampling)
        return
    assert set(left(vocab, sampling)) == kept


def test_the_order_is_the_users(vocab: Vocab):
    hot = {"temperature": 3.0, "min_p": 0.3}
    cut_first = left(vocab, only("min_p", "temperature", **hot))
    hot_first = left(vocab, only("temperature", "min_p", **hot))
    assert set(cut_first) == {0, 1, 2}
    assert len(hot_first) == 6  # flattened before it was cut


def test_temperature_and_its_dynamic_kind(vocab: Vocab):
    even = left(vocab, only("temperature", temperature=100.0))
    sharp = left(vocab, only("temperature", temperature=0.1))
    assert even[0] < 0.2
    assert sharp[0] > 0.98
    moved = left(vocab, only("temperature", temperature=1.0, dynatemp_range=0.9))
    assert abs(moved[0] - PROBABILITIES[0]) > 0.01


def test_what_was_said_weighs_less(vocab: Vocab):
    plain = left(vocab, only("penalties"))
    for values in (
        {"repeat_penalty": 1.5},
        {"presence_penalty": 1.0},
        {"frequency_penalty": 1.0},
    ):
        assert left(vocab, only("penalties", **values), FIRST)[0] < plain[0]
        far = (FIRST, *range(200, 270))
        assert left(vocab, only("penalties", **values), *far)[0] == pytest.approx(plain[0])
        whole = only("penalties", repeat_last_n=-1, **values)  # the context
        assert left(vocab, whole, *far, n_ctx=512)[0] < plain[0]


def test_a_sequence_that_was_said_is_kept_from_being_said_again(vocab: Vocab):
    said = (FIRST, 300, 301, 302, FIRST, 300, 301)
    dry = only("dry", dry_multiplier=2.0, dry_allowed_length=2, dry_penalty_last_n=-1)
    with chain(vocab, dry, *said, n_ctx=512) as made:
        rows = candidates(vocab)
        rows["logit"][302] = 0.0
        _, after = made.apply(rows)
        assert after["logit"][after["id"] == 302][0] < -1.0
    broken = only("dry", dry_multiplier=2.0, dry_sequence_breakers=(vocab.text([301]),))
    with chain(vocab, broken, *said, n_ctx=512) as made:
        rows = candidates(vocab)
        rows["logit"][302] = 0.0
        _, after = made.apply(rows)
        assert after["logit"][after["id"] == 302][0] == 0.0


def test_adaptive_p_chooses_about_as_likely_as_wished(vocab: Vocab):
    found = {}
    for target in (0.05, 0.9):
        sampling = only("top_k", "adaptive-p", top_k=6, adaptive_target=target, adaptive_decay=0.5)
        with chain(vocab, sampling) as made:
            chosen = [made.apply(candidates(vocab))[0] - FIRST for _ in range(200)]
        found[target] = np.mean([PROBABILITIES[token] for token in chosen])
    assert found[0.05] < 0.15 < found[0.9]


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_replaces_the_chain(vocab: Vocab, version):
    with chain(vocab, Sampling(mirostat=version, temperature=1.0, mirostat_tau=0.1)) as made:
        chosen = {made.apply(candidates(vocab))[0] - FIRST for _ in range(50)}
    assert chosen <= set(range(6))


def test_bias_and_bans_come_before_everything(vocab: Vocab):
    favoured = only("top_k", top_k=1, logit_bias={FIRST + 5: 10.0})
    assert set(left(vocab, favoured)) == {5}
    banned = only("top_k", top_k=1, logit_bias={FIRST: float("-inf")})
    assert set(left(vocab, banned)) == {1}


def test_all_names_that_llama_cpp_knows_make_a_chain(vocab: Vocab):
    assert set(ORDER) < set(KNOWN)
    with chain(vocab, only(*KNOWN, adaptive_target=0.3)) as made:
        token, _ = made.apply(candidates(vocab))
        assert FIRST <= token < FIRST + 6
    assert LLAMA_CPP_SAMPLING.samplers is None


PROMPT = "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is"


def ask(worker: Driver, **more: object):
    request = Generate(prompt=RawText(text=PROMPT), max_tokens=8, want_tokens=True, **more)  # type: ignore[arg-type]
    return worker.ask(request).wait()


def test_a_stop_token_ends_the_reply_and_is_no_part_of_it(worker: Driver):
    greedy = Sampling(temperature=0.0)
    whole = ask(worker, sampling=greedy).finished().tokens
    asked = ask(worker, sampling=greedy, stop_tokens=(whole[3], 7))
    assert asked.finished().reason == "stop"
    assert asked.finished().tokens == whole[: whole.index(whole[3])]


def test_probabilities_are_told_before_and_after_the_samplers(worker: Driver):
    cool = only("top_k", "temperature", temperature=0.5, top_k=3, seed=1)
    asked = ask(worker, sampling=cool, top_logprobs=6)
    infos = [info for event in asked.events if isinstance(event, Delta) for info in event.tokens]
    for info in infos:
        before = [rival.logprob for rival in info.rivals]
        after = [rival.sampled_logprob for rival in info.rivals]
        assert before == sorted(before, reverse=True)
        assert all(value is not None for value in after[:3])
        assert after[3:] == [None] * 3
        kept = np.array([value for value in after if value is not None])
        assert np.exp(kept).sum() == pytest.approx(1.0, abs=1e-3)
        # Half the temperature doubles the distances.
        assert kept[0] - kept[1] == pytest.approx(2 * (before[0] - before[1]), abs=1e-2)
