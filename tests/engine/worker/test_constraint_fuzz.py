"""Grammars from anywhere: mutated, nested, huge. Each is a rule to follow, or a sentence.

A crash of llguidance or llama.cpp would end this process: that is the test.
"""

import json
import random
import time
from typing import Any

import numpy as np
import pytest

from llmchat.engine.protocol import Constraint
from llmchat.engine.worker.constraint.guided import Guide, make_tokenizer
from llmchat.engine.worker.constraint.native import Grammar
from llmchat.engine.worker.constraint.rule import Rule
from llmchat.engine.worker.sampling import DEFAULTS, Chain
from llmchat.errors import GenerationFailed
from tests.engine.worker.driver import Driver

pytestmark = pytest.mark.model
LONGEST = 20.0
"""Seconds of CPU time that one grammar may take, its steps included; a hang is what is meant."""

SEEDS: dict[str, list[Any]] = {
    "json_schema": [
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"type": "array", "items": {"type": "integer", "minimum": -5}, "maxItems": 3},
        {"anyOf": [{"const": 1}, {"enum": ["x", None]}, {"$ref": "#/$defs/d"}], "$defs": {"d": {}}},
        {"type": "string", "pattern": "^a+(b|c){2,5}$", "maxLength": 9},
        {"type": "number", "multipleOf": 0.5, "exclusiveMaximum": 3},
    ],
    "regex": ["(a|b)*c{2,9}", r"\d{4}-\d\d", "[^a-z]+?", r"(?i)yes|no", ".{0,20}x&[ab]*"],
    "lark": [
        'start: a b*\na: "x" | b\nb: /[0-9]+/ a?',
        'start: "{" pair ("," pair)* "}"\npair: NAME ":" NAME\nNAME: /[a-z]+/',
        'start: %json {"type": "object"} | <|im_end|>',
    ],
    "gbnf": [
        'root ::= "a" b* | c\nb ::= [a-z]{1,3}\nc ::= "x" root?',
        'root ::= (a | b)+\na ::= [^"\\\\] | "\\\\" ["n]\nb ::= "\\u00e4"',
    ],
}
BITS = ["(", ")", "{", "}", "[", "]", "|", "*", "+", "?", "{99999999}", "\\", '"', "'", "^", "$",
        "\0", "::=", ":", "\n", "start", "root", "%ignore", "%import", "é", "\ud800", "0", "-1",
        "null", "(?!", "\\p{L}", "<|", "|>", "<[0-9]>", "$ref", "#", "true", "[]"]  # fmt: skip
KEYS = ["type", "items", "properties", "required", "enum", "const", "anyOf", "allOf", "oneOf",
        "not", "$ref", "pattern", "format", "minItems", "maxItems", "minLength", "maxLength",
        "minimum", "maximum", "multipleOf", "additionalProperties", "x-guidance"]  # fmt: skip
VALUES: list[Any] = [None, True, False, 0, -1, 1e308, 2**70, "", "string", "object", "#",
          "#/$defs/d", [], {}, ["a", "a"], {"type": "integer"}, [{}], "(", "a" * 200]  # fmt: skip


def mutated_text(random_: random.Random, text: str) -> str:
    for _ in range(random_.randint(1, 4)):
        at = random_.randint(0, len(text))
        what = random_.random()
        if what < 0.5:
            text = text[:at] + random_.choice(BITS) + text[at:]
        elif what < 0.8:
            text = text[:at] + text[at + random_.randint(1, 5) :]
        else:
            text = text[:at] + text[: random_.randint(0, len(text))] * random_.randint(1, 3)
    return text


def mutated_schema(random_: random.Random, schema: Any) -> Any:
    schema = json.loads(json.dumps(schema))
    places: list[Any] = [schema]
    for place in places:
        places += [v for v in place.values() if isinstance(v, dict)]
    for _ in range(random_.randint(1, 3)):
        place = random_.choice(places)
        value = random_.choice([*VALUES, schema])
        place[random_.choice(KEYS)] = json.loads(json.dumps(value))
    return schema


def cases(seed: int, count: int) -> list[Constraint]:
    random_ = random.Random(seed)
    found = []
    for _ in range(count):
        kind: Any = random_.choice(list(SEEDS))
        text: Any = random_.choice(SEEDS[kind])
        if kind == "json_schema":
            text = json.dumps(mutated_schema(random_, text))
        if kind != "json_schema" or random_.random() < 0.2:
            text = mutated_text(random_, text)
        found.append(Constraint(kind=kind, text=text))
    return found


def follow(rule: Rule, chain: Chain, random_: np.random.Generator, n_vocab: int) -> None:
    for _ in range(8):
        token = rule.sample(chain, random_.normal(0, 3, n_vocab).astype(np.float32))
        if token is None or token in chain.vocab.ends or rule.complete:
            return


def fuzz(worker: Driver, seed: int, count: int) -> dict[str, int]:
    assert worker.backend._opened is not None
    vocab = worker.backend._opened.loaded.vocab
    tokenizer = make_tokenizer(vocab)
    random_ = np.random.default_rng(seed)
    counts = {"followed": 0, "refused": 0}
    chain = Chain(vocab, DEFAULTS, 1)
    for constraint in cases(seed, count):
        started = time.thread_time()
        rule: Rule | None = None
        refused: GenerationFailed | None = None
        try:
            if constraint.kind == "gbnf":
                rule = Grammar.parse(vocab, constraint.text)
            else:
                rule = Guide(tokenizer, vocab, constraint).fork()
            follow(rule, chain, random_, vocab.size)
            counts["followed"] += 1
        except GenerationFailed as error:
            counts["refused"] += 1
            refused = error
        finally:
            if rule is not None:
                rule.close()
        if refused is not None:
            assert refused.key == "engine.bad_grammar"
            assert 10 < len(refused.sentence) < 400
            assert "\n" not in refused.sentence
        assert time.thread_time() - started < LONGEST, constraint
    chain.close()
    return counts


def test_whatever_is_given_is_followed_or_refused(worker: Driver):
    counts = fuzz(worker, seed=20261123, count=150)
    assert counts["followed"] > 15
    assert counts["refused"] > 30


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_given_by_thousands(worker: Driver, seed):
    assert sum(fuzz(worker, seed=seed, count=1000).values()) == 1000
