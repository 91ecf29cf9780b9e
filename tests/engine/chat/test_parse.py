# ruff: noqa: E501, RUF001 - replies are written as models write them
"""Replies taken apart: every family's forms, cut anywhere."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmchat.engine.protocol import ChatMessage, Messages
from llmchat.engine.worker.chat.calls import read_calls
from llmchat.engine.worker.chat.parse import Pieces, ReplyParser
from tests.engine.chat.families import load

NAMES = (
    "deepseek-r1", "functionary", "gemma4", "gpt-oss", "kimi-k2", "kimi-k3", "llama3", "minicpm5",
    "mistral", "muse", "qwen3", "qwen3-coder", "smollm2", "solar",
)  # fmt: skip

WEATHER = '{"city": "Oslo"}'

REPLIES: list[tuple[str, str, Pieces, int]] = [
    ("smollm2", "Hello <b>you</b> <think>", [("text", "Hello <b>you</b> <think>")], 0),
    ("smollm2", "", [], 0),
    ("qwen3", "<think>\nHm.\n\n Yes.\n</think>\n\nParis.",
     [("thinking", "Hm.\n\n Yes."), ("text", "Paris.")], 0),
    ("qwen3", "<think>\n\n</think>\n\nParis.", [("text", "Paris.")], 0),
    ("qwen3", "Tags are written <think>so</think>.",
     [("text", "Tags are written <think>so</think>.")], 0),
    ("qwen3", "<think>\nnever ends", [("thinking", "never ends")], 0),
    ("qwen3", "half a <tool_ca", [("text", "half a <tool_ca")], 0),
    ("qwen3", f'<think>\nA\n</think>\n\n<tool_call>\n{{"name": "weather", "arguments": {WEATHER}}}'
              f'\n</tool_call>\n<tool_call>\n{{"name": "weather", "arguments": {{}}}}\n</tool_call>',
     [("thinking", "A"),
      ("tool", f'\n{{"name": "weather", "arguments": {WEATHER}}}\n'), ("text", "\n"),
      ("tool", '\n{"name": "weather", "arguments": {}}\n')], 2),
    ("deepseek-r1", "Hm.\n</think>\n\nParis.", [("thinking", "Hm."), ("text", "Paris.")], 0),
    ("gpt-oss", "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final"
                "<|message|>Paris.", [("thinking", "Hm."), ("text", "Paris.")], 0),
    ("gpt-oss", "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"
                f"{WEATHER}<|call|>", [("tool", WEATHER)], 1),
    ("llama3", f'{{"name": "weather", "parameters": {WEATHER}}}',
     [("tool", f'{{"name": "weather", "parameters": {WEATHER}}}')], 1),
    ("llama3", '{"just": "json"}', [("text", '{"just": "json"}')], 0),
    ("llama3", 'So: {"name": "weather"}', [("text", 'So: {"name": "weather"}')], 0),
    ("mistral", f"[TOOL_CALLS]weather[ARGS]{WEATHER}", [("tool", f"weather[ARGS]{WEATHER}")], 1),
    ("mistral", f'[TOOL_CALLS][{{"name": "weather", "arguments": {WEATHER}}}]',
     [("tool", f'[{{"name": "weather", "arguments": {WEATHER}}}]')], 1),
    ("kimi-k2", "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
                f"<|tool_call_argument_begin|>{WEATHER}<|tool_call_end|><|tool_calls_section_end|>",
     [("tool", "<|tool_call_begin|>functions.weather:0"
               f"<|tool_call_argument_begin|>{WEATHER}<|tool_call_end|>")], 1),
    ("gemma4", '<|channel>thought\nHm.\n<channel|><|tool_call>call:weather{city:<|"|>Oslo<|"|>}'
               "<tool_call|>",
     [("thinking", "Hm."), ("tool", 'call:weather{city:<|"|>Oslo<|"|>}')], 1),
]  # fmt: skip


def parse(name: str, pieces: list[str], tools: bool = True) -> tuple[Pieces, ReplyParser]:
    parser = ReplyParser(load(name), tools=tools)
    found: Pieces = []
    for piece in pieces:
        found += parser.feed(piece)
    found += parser.end()
    merged: Pieces = []
    for kind, text in found:
        assert text
        if merged and merged[-1][0] == kind:
            merged[-1] = (kind, merged[-1][1] + text)
        else:
            merged.append((kind, text))
    return merged, parser


@pytest.mark.parametrize(("name", "reply", "expected", "calls"), REPLIES)
def test_a_reply_is_taken_apart(name, reply, expected, calls):
    for pieces in ([reply], list(reply)):
        found, parser = parse(name, pieces)
        assert found == expected
        assert len(parser.tool_calls) == calls
        for n, call in enumerate(parser.tool_calls):
            assert (call.id, call.name) == (f"call_{n}", "weather")
            assert json.loads(call.arguments) in ({"city": "Oslo"}, {})


FRAGMENTS = st.sampled_from(
    ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|channel|>", "analysis", "<|message|>",
     "<|end|>", "<|start|>", "final", "commentary to=functions.f", "<|call|>", "[TOOL_CALLS]", "\n",
     " ", "{", '{"name": "f", "arguments": {}}', "<", "<th", "text", "é", "</", "<|channel>thought",
     "<channel|>", "<|tool_call>", "<tool_call|>", "to=f", "to=self", "<|eom|>", ">>>", "all", "f",
     "<function=", '<function name="', "<|open|>response<|sep|>", "<|open|>tools<|sep|>", "<|think|>",
     "<|close|>tools<|sep|>", "<|begin|>assistant", "<|content|>"]
)  # fmt: skip


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.sampled_from(NAMES), st.lists(FRAGMENTS, max_size=12), st.data())
def test_any_split_gives_the_same(name, fragments, data):
    reply = "".join(fragments)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=8)))
    places = [0, *cuts, len(reply)]
    pieces = [reply[a:b] for a, b in pairwise(places)]
    whole, one = parse(name, ["", reply])
    split, other = parse(name, ["", *pieces])
    assert split == whole
    assert other.tool_calls == one.tool_calls


@pytest.mark.parametrize("opened", [True, False])
def test_the_prompt_says_whether_thinking_is_open(opened):
    template = load("deepseek-v3.1")
    prompt = template.render(
        Messages(
            messages=(ChatMessage(role="user", content="Hi"),),
            template_kwargs={"enable_thinking": opened},
        )
    )
    parser = ReplyParser(template, prompt=prompt)
    found = parser.feed("Hm.</think>Hello") + parser.end()
    assert found[0][0] == ("thinking" if opened else "text")


def test_a_continued_reply_goes_on_where_it_was():
    for thinking, content, kind in (("Hm", "", "thinking"), ("Hm", "Hel", "text")):
        for name in ("qwen3", "gpt-oss", "deepseek-r1"):
            template = load(name)
            last = ChatMessage(role="assistant", thinking=thinking, content=content)
            prompt = template.render(
                Messages(
                    messages=(ChatMessage(role="user", content="Hi"), last), continue_final=True
                )
            )
            parser = ReplyParser(template, prompt=prompt)
            assert parser.feed("lo") + parser.end() == [(kind, "lo")], name


def test_without_tools_a_call_is_text():
    reply = '<tool_call>{"name": "f"}</tool_call>'
    found, parser = parse("qwen3", [reply], tools=False)
    assert found == [("text", reply)]
    assert parser.tool_calls == ()


BODIES = [
    '{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}',
    '[{"name": "weather", "parameters": {"city": "Oslo", "days": 2}}]',
    '[{"tool_name": "weather", "parameters": {"city": "Oslo", "days": 2}}]',
    '{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo", "days": 2}}}',
    "<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>",
    '<function=weather>{"city": "Oslo", "days": 2}</function>',
    '<invoke name="weather"><parameter name="city">Oslo</parameter><parameter name="days">2</parameter></invoke>',
    "weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key><arg_value>2</arg_value>",
    '[weather(city="Oslo", days=2)]',
    'call:weather{city:<|"|>Oslo<|"|>,days:2}',
    'weather[ARGS]{"city": "Oslo", "days": 2}',
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
    '{"city": "Oslo", "days": 2}\n```<｜tool▁call▁end｜>',
    '<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"city": "Oslo", "days": 2}<｜tool▁call▁end｜>',
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_shapes_of_calls(body):
    (call,) = read_calls(body)
    assert call.name == "weather"
    assert json.loads(call.arguments) == {"city": "Oslo", "days": 2}


@settings(max_examples=200, deadline=500, derandomize=True)
@given(st.text(alphabet='{}[]"<>:,=ab \n|_(', max_size=400))
def test_any_body_is_read_or_not(body):
    for call in read_calls(body):
        assert isinstance(call.name, str)


@pytest.mark.parametrize("body", ["", "{", "[" * 100_000, " " * 100_000, "a" * 100_000, "f" + "(" * 5000,
                                  "weather " * 20_000],
                         ids=["empty", "brace", "brackets", "spaces", "letters", "calls", "words"])  # fmt: skip
def test_hopeless_bodies_end_soon(body):
    assert len(read_calls(body)) <= 1
