"""JSON schemas, regexes and Lark grammars: obeyed, refused in a sentence, and never in the way."""

import json
import re

import jsonschema
import numpy as np
import pytest

from llmchat.engine.protocol import (
    ChatMessage,
    Constraint,
    Count,
    Counted,
    Generate,
    Messages,
    RawText,
)
from llmchat.values import Sampling
from tests.engine.worker.driver import Asked, Driver

pytestmark = pytest.mark.model
GREEDY = Sampling(temperature=0)
WARM = Sampling(temperature=1.0, seed=7)
MOST = 80
DEEP_REFS = json.dumps(
    {
        "$ref": "#/$defs/d0",
        "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(6000)} | {"d6000": {}},
    }
)
DEEP_LARK = "start: a0\n" + "".join(f"a{n}: a{n + 1}\n" for n in range(9000)) + 'a9000: "x"'
DEEP_GBNF = "root ::= a0\n" + "".join(f"a{n} ::= a{n + 1}\n" for n in range(9000)) + 'a9000 ::= "x"'
"""Chains that overflow the stack of whoever follows them, and a number that takes for ever."""
ENDLESS = ("true", "recursion", "sixty optional properties", "exclusive bounds")
"""Documents that a small model may go on with for ever: right as far as they go."""


def chat(words: str) -> Messages:
    return Messages(messages=(ChatMessage(role="user", content=words),))


def ask(worker: Driver, kind, text, **fields) -> Asked:
    fields.setdefault("sampling", GREEDY)
    fields.setdefault("prompt", chat("Describe a person as JSON."))
    fields.setdefault("max_tokens", MOST)
    if not isinstance(text, str):
        text = json.dumps(text)
    return worker.ask(Generate(id=1, constraint=Constraint(kind=kind, text=text), **fields)).wait()


def obj(**properties) -> dict[str, object]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


PERSON = obj(
    name={"type": "string", "maxLength": 12},
    age={"type": "integer", "minimum": 18, "maximum": 65},
)

SCHEMAS = {
    "simple": PERSON,
    "const": {"const": {"a": [1, None, True]}},
    "enum with a quote and a newline": {"enum": ['say "hi"', "two\nlines", "back\\slash"]},
    "nullable list": {"type": ["array", "null"], "items": {"type": "null"}, "maxItems": 2},
    "maxLength": {"type": "string", "minLength": 3, "maxLength": 40},
    "maxItems": {"type": "array", "items": {"type": "boolean"}, "minItems": 4, "maxItems": 6},
    "unicode keys": obj(größe={"type": "boolean"}, 名前={"enum": ["ü", "字"]}),
    "minimum and maximum": {"type": "integer", "minimum": 37, "maximum": 41},
    "exclusive bounds": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "multipleOf": {"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 99},
    "format": {"type": "string", "format": "date"},
    "pattern": {"type": "string", "pattern": r"^[A-Z]{3}-\d{2}$"},
    "pattern without anchors": {"type": "string", "pattern": "[0-9]{2}", "maxLength": 8},
    "defs and a root ref": {
        "$ref": "#/$defs/item",
        "$defs": {"item": obj(done={"type": "boolean"})},
    },
    "recursion": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["next"],
                "additionalProperties": False,
            }
        },
    },
    "anyOf beside properties": {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}},
        "required": ["kind"],
        "additionalProperties": False,
        "anyOf": [{"required": ["kind"]}],
    },
    "allOf": {"allOf": [{"type": "integer", "minimum": 5}, {"type": "integer", "maximum": 7}]},
    "sixty optional properties": {
        "type": "object",
        "properties": {f"p{n}": {"type": "boolean"} for n in range(60)},
        "required": ["p0"],
        "additionalProperties": False,
    },
    "nested": obj(at=obj(x={"enum": [1, 2]}, y={"type": "boolean"}), ok={"type": "boolean"}),
    "tuple": {"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}], "items": False,
              "minItems": 2},
    "true": True,
}  # fmt: skip


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_obeyed(worker: Driver, name, sampling):
    schema = SCHEMAS[name]
    most = 24 if name in ENDLESS else MOST
    asked = ask(worker, "json_schema", schema, sampling=sampling, max_tokens=most)
    if name in ENDLESS and asked.finished().reason == "length":
        return
    assert asked.finished().reason == "stop", asked.text()
    found = json.loads(asked.text())
    jsonschema.validate(found, schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("json_schema", "{", "line 1"),
        ("json_schema", "", "empty"),
        ("json_schema", "[1]", "schema"),
        ("json_schema", '{"type": "foo"}', "foo"),
        ("json_schema", '{"not": {"type": "string"}}', "`not` cannot be obeyed"),
        (
            "json_schema",
            '{"uniqueItems": true, "contains": {}}',
            "`uniqueItems` cannot be",
        ),
        ("json_schema", '{"oneOf": [{"type": "string"}, {"maxLength": 3}]}', "`anyOf` can be"),
        ("json_schema", "false", "nsatisfiable"),
        ("json_schema", '{"$ref": "http://example.com/x"}', "http://example.com/x"),
        ("json_schema", '{"$ref": "#"}', "no text can obey it"),
        ("json_schema", '{"format": "zip", "type": "string"}', "zip"),
        ("json_schema", '{"items":' * 9000 + "{}" + "}" * 9000, "recursion"),
        ("json_schema", '"' + "x" * 300_000 + '"', "more than 262144"),
        ("json_schema", '{"type": "integer", "multipleOf": 99999989}', "more time or memory"),
        ("json_schema", DEEP_REFS, "more time or memory"),
        ("regex", "(", "unclosed group"),
        ("regex", r"(a)\1", "backreferences"),
        ("regex", "(?=a)b", "look-ahead"),
        ("regex", r"[^\s\S]", "no text can obey it"),
        ("lark", 'start: "', "(line 1, column"),
        ("lark", 'foo: "a"', "start"),
        ("lark", DEEP_LARK, "more time or memory"),
        ("gbnf", DEEP_GBNF, "more than 2000 rules"),
        ("lark", "start: start", "no text can obey it"),
        ("lark", "start: " + "(" * 9000 + '"a"' + ")" * 9000, "nested"),
        ("lark", 'start: "a" nothing', "nothing"),
    ],
    ids=range(26),
)
def test_what_cannot_be_obeyed_is_one_sentence(worker: Driver, kind, text, says):
    failed = ask(worker, kind, text, max_tokens=3).failed()
    assert failed.code == "bad_grammar"
    assert says in failed.message
    assert len(failed.message) < 300
    assert "\n" not in failed.message
    assert ask(worker, "regex", "ok").text() == "ok"


@pytest.mark.parametrize("kind", ["lark", "gbnf"])
def test_long_chains_of_rules_are_followed(worker: Driver, kind):
    sign = "::=" if kind == "gbnf" else ":"
    rules = [f"a{n} {sign} a{n + 1}" for n in range(400)]
    text = "\n".join([f"{'root' if kind == 'gbnf' else 'start'} {sign} a0", *rules])
    assert ask(worker, kind, f'{text}\na400 {sign} "x"').text() == "x"


def test_what_gets_too_complex_on_the_way_fails_alone(worker: Driver):
    schema = {
        "type": "object",
        "properties": {f"p{n}": {"type": "integer"} for n in range(2000)},
    }
    other = worker.ask(Generate(id=2, prompt=RawText(text="The sea is"), max_tokens=20))
    failed = ask(worker, "json_schema", schema, n=2).failed()
    assert failed.code == "bad_grammar"
    assert "too complex" in failed.message
    assert other.wait().finished().reason in ("length", "stop")


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
def test_a_regex_is_obeyed_and_its_end_ends_the_reply(worker: Driver, sampling):
    pattern = r"[0-9]{4}-(0[1-9]|1[0-2]) (left|right)"
    asked = ask(worker, "regex", pattern, sampling=sampling)
    assert re.fullmatch(pattern, asked.text())
    assert asked.finished().reason == "stop"


def test_a_lark_grammar_is_obeyed(worker: Driver):
    grammar = 'start: "say " WORD ("," WORD)? "!"\nWORD: /[a-z]{2,5}/'
    asked = ask(worker, "lark", grammar, sampling=WARM)
    assert re.fullmatch(r"say [a-z]{2,5}(,[a-z]{2,5})?!", asked.text())


def test_a_text_grammar_never_makes_a_special_token(worker: Driver):
    special = b"<|im_end|>"
    asked = ask(worker, "regex", re.escape(special.decode()) + "x")
    assert asked.finished().reason == "stop"
    assert asked.text() == "<|im_end|>x"
    assert all(token > 16 for token in asked.finished().tokens)  # the starter's 17 control tokens


def test_forced_words_are_part_of_what_is_constrained(worker: Driver):
    asked = ask(worker, "json_schema", PERSON, forced='{"name": "Ada')
    assert asked.text().startswith('{"name": "Ada')
    jsonschema.validate(json.loads(asked.text()), PERSON)
    whole = ask(worker, "regex", "abc", forced="abc")
    assert (whole.text(), whole.finished().reason) == ("abc", "stop")
    assert "must begin with" in ask(worker, "json_schema", PERSON, forced="Ada").failed().message


def test_a_reply_that_goes_on_goes_on_in_its_grammar(worker: Driver):
    prompt = Messages(
        messages=(
            ChatMessage(role="user", content="Who?"),
            ChatMessage(role="assistant", content='{"name": "Ada", "a'),
        ),
        continue_final=True,
    )
    asked = ask(worker, "json_schema", PERSON, prompt=prompt)
    jsonschema.validate(json.loads('{"name": "Ada", "a' + asked.text()), PERSON)


def test_every_alternative_obeys_on_its_own(worker: Driver):
    asked = ask(worker, "regex", "[a-z]{3,9}[0-9]", n=4, sampling=WARM)
    texts = [asked.text(choice) for choice in range(4)]
    assert all(re.fullmatch("[a-z]{3,9}[0-9]", text) for text in texts)
    assert len(set(texts)) > 1


def test_rivals_are_shown_as_the_model_had_them(worker: Driver):
    asked = ask(worker, "regex", "(yes|no)", top_logprobs=4)
    [first, *_] = [info for event in asked.events for info in getattr(event, "tokens", ())
                   if hasattr(info, "rivals") and info.rivals]  # fmt: skip
    likeliest = first.rivals[0].logprob
    assert first.logprob is not None
    assert all(likeliest >= rival.logprob for rival in first.rivals)
    assert np.isfinite([rival.logprob for rival in first.rivals]).all()


def test_what_is_banned_is_not_chosen_though_allowed(worker: Driver):
    plain = ask(worker, "regex", "a{1,9}").finished()
    banned = {token: -float("inf") for token in plain.tokens}
    asked = ask(worker, "regex", "(a|b)", sampling=Sampling(temperature=0, logit_bias=banned))
    assert asked.text() == "b" or not set(asked.finished().tokens) & set(banned)


def test_ignoring_the_end_ends_with_the_grammar(worker: Driver):
    asked = ask(worker, "regex", "ab?", ignore_eos=True)
    assert asked.text() in ("a", "ab")
    assert asked.finished().reason == "stop"


def test_the_same_seed_repeats_a_constrained_reply(worker: Driver):
    first, second = (ask(worker, "json_schema", PERSON, sampling=WARM).text() for _ in range(2))
    assert first == second


def test_neighbours_are_answered_while_a_schema_is_read(worker: Driver):
    slow = {"enum": [f"number {n}" for n in range(12_000)]}
    first = worker.ask(
        Generate(
            id=1, prompt=chat("?"), max_tokens=20, sampling=GREEDY,
            constraint=Constraint(kind="json_schema", text=json.dumps(slow)),
        )
    )  # fmt: skip
    counted = Asked()
    worker.backend.submit(Count(id=2, prompt=RawText(text="a b")), counted.emit)
    assert isinstance(counted.wait().events[-1], Counted)
    assert not first.events
    assert json.loads(first.wait().text()) in slow["enum"]


def test_a_request_can_be_cancelled_while_its_schema_is_read(worker: Driver):
    slow = {"enum": [f"other {n}" for n in range(12_000)]}
    asked = worker.ask(
        Generate(
            id=1, prompt=chat("?"), sampling=GREEDY,
            constraint=Constraint(kind="json_schema", text=json.dumps(slow)),
        )
    )  # fmt: skip
    asked.cancel()
    assert asked.wait().finished().reason == "cancelled"
