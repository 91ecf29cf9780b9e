"""Grammars, rivals, biases: what shapes the choice of a token."""

import json
import math

import pytest

from llmchat.engine.protocol import Constraint, Delta, Generate, RawText, TokenInfo
from llmchat.values import Sampling
from tests.engine.worker.driver import Asked, Driver

pytestmark = pytest.mark.model
GREEDY = Sampling(temperature=0)
YES_NO = 'root ::= "yes" | "no"'
OBJECT = r"""root ::= "{" ws "\"name\":" ws string "," ws "\"age\":" ws [0-9] [0-9]? ws "}"
string ::= "\"" [a-zA-Z ]{1,12} "\""
ws ::= " "?"""


def ask(worker: Driver, **fields) -> Asked:
    fields.setdefault("sampling", GREEDY)
    fields.setdefault("prompt", RawText(text="The sea is"))
    return worker.ask(Generate(id=1, **fields)).wait()


def infos(asked: Asked) -> list[TokenInfo]:
    return [info for event in asked.events if isinstance(event, Delta) for info in event.tokens]


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.2, seed=3)])
def test_a_grammar_is_obeyed(worker: Driver, sampling):
    asked = ask(worker, constraint=Constraint(kind="gbnf", text=YES_NO), sampling=sampling)
    assert asked.text() in ("yes", "no")
    assert asked.finished().reason == "stop"


def test_a_grammar_gives_json(worker: Driver):
    asked = ask(worker, constraint=Constraint(kind="gbnf", text=OBJECT), max_tokens=60)
    assert set(json.loads(asked.text())) == {"name", "age"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        'root ::= "unfinished',
        "this is no grammar",
        'other ::= "a"',
        "root ::= missing",
        "root ::= root",
        "root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000,
        'root ::= "a"{1,999999999}',
        'root ::= "a\0b"',
    ],
    ids=range(9),
)
def test_what_is_no_grammar_is_one_failed_request(worker: Driver, text):
    asked = ask(worker, constraint=Constraint(kind="gbnf", text=text), max_tokens=3)
    assert asked.failed().code == "bad_grammar"
    assert ask(worker, max_tokens=1).finished().reason == "length"


def test_forced_words_advance_the_grammar(worker: Driver):
    constraint = Constraint(kind="gbnf", text='root ::= "yes, " ("sir" | "madam")')
    asked = ask(worker, constraint=constraint, forced="yes, ")
    assert asked.text() in ("yes, sir", "yes, madam")
    refused = ask(worker, constraint=constraint, forced="never")
    assert refused.failed().code == "bad_grammar"


def test_rivals_are_probabilities_before_and_after_the_samplers(worker: Driver):
    sampling = Sampling(temperature=0.7, top_k=5, top_p=1.0, min_p=0.0, seed=1)
    found = infos(ask(worker, sampling=sampling, top_logprobs=8, max_tokens=6))
    assert len(found) == 6
    for info in found:
        before = [rival.logprob for rival in info.rivals]
        assert before == sorted(before, reverse=True)
        assert len(info.rivals) == 8
        assert sum(map(math.exp, before)) <= 1.0001
        after = [rival.sampled_logprob for rival in info.rivals]
        assert all(value is None for value in after[5:])
        kept = [math.exp(value) for value in after[:5] if value is not None]
        assert sum(kept) == pytest.approx(1.0, abs=1e-3)
        chosen = next(rival for rival in info.rivals if rival.token == info.token)
        assert info.logprob == pytest.approx(chosen.logprob)


def test_rivals_change_nothing_about_the_answer(worker: Driver):
    sampling = Sampling(temperature=0.9, seed=11)
    ask(worker, max_tokens=1)  # both find the prompt read alike, whoever asked before
    plain = ask(worker, sampling=sampling, max_tokens=10)
    shown = ask(worker, sampling=sampling, max_tokens=10, top_logprobs=3)
    assert plain.text() == shown.text()
    assert len(infos(shown)) == 10


def test_a_bias_forbids_and_favours(worker: Driver):
    first = ask(worker, max_tokens=1).finished().tokens[0]
    forbidden = Sampling(temperature=0, logit_bias={first: -math.inf})
    assert ask(worker, sampling=forbidden, max_tokens=1).finished().tokens[0] != first
    favoured = Sampling(temperature=0, logit_bias={1234: 1000.0})
    assert ask(worker, sampling=favoured, max_tokens=1).finished().tokens == (1234,)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(mirostat=1, seed=1),
        Sampling(mirostat=2, seed=1),
        Sampling(top_k=0, top_p=0.0, min_p=1.0),
        Sampling(typical_p=0.0),
        Sampling(xtc_probability=1.0, xtc_threshold=0.0),
        Sampling(top_n_sigma=1.0, dynatemp_range=0.5),
        Sampling(dry_multiplier=0.8, repeat_penalty=1.3, repeat_last_n=-1),
        Sampling(samplers=()),
        Sampling(samplers=("temperature", "top_k", "top_k")),
        Sampling(temperature=-1.0),
        Sampling(temperature=1000.0),
        Sampling(dry_multiplier=1.0, dry_allowed_length=-5, dry_penalty_last_n=-1),
        Sampling(temperature=0, presence_penalty=1.0),
    ],
)
def test_every_chain_ends_in_a_picker(worker: Driver, sampling):
    assert ask(worker, sampling=sampling, max_tokens=3).finished().reason in ("length", "stop")
