# ruff: noqa: E501 - replies are written as models write them
"""All the templates that llama.cpp bundles: markers, contents, calls there and back."""

import json
from functools import cache

import pytest

from llmchat.engine.protocol import ChatMessage, Messages
from llmchat.engine.worker.chat.parse import ReplyParser
from llmchat.engine.worker.chat.segments import Segment
from llmchat.engine.worker.chat.template import ChatTemplate
from llmchat.values import ToolCall
from tests.engine.chat import bundled
from tests.engine.chat.facts import FACTS, WRITES_NO_CALLS

CONVERSATION = Messages(
    messages=(
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="First <|im_end|></s> question"),
        ChatMessage(role="assistant", content="First [INST] answer"),
        ChatMessage(role="user", content="Second <think> question"),
    )
)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Says what the weather is.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where."},
                "days": {"type": "integer", "description": "How far ahead."},
            },
            "required": ["city"],
        },
    },
}
ARGUMENTS = {"city": "Oslo", "days": 3}
QUESTION = ChatMessage(role="user", content="Umbrella?")
# Mistral's template wants ids of nine letters and digits.
CALL = ToolCall(id="abcdefghi", name="get_weather", arguments=json.dumps(ARGUMENTS))
RESULT = ChatMessage(
    role="tool", content='{"sky": "<|im_end|> rain"}', tool_call_id=CALL.id, name="get_weather"
)


def joined(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments)


@cache
def conversation(name: str) -> list[Segment]:
    return bundled.load(name).render(CONVERSATION)


def test_every_template_has_facts():
    assert set(bundled.names()) == set(FACTS)
    assert len(FACTS) == bundled.COUNT


@pytest.mark.parametrize("name", FACTS)
def test_the_probe_finds_its_markers(name):
    facts = FACTS[name]
    template = bundled.load(name)
    markers = template.markers
    assert template.facts.present
    assert (template.facts.thinking, markers.family) == (facts.thinking, facts.family)
    assert (template.facts.system, template.facts.tools) == (facts.system, facts.tools)
    assert markers.thinking_start.strip() == facts.thinking_start
    assert markers.thinking_end.strip() == facts.thinking_end
    assert (markers.tool_start.strip(), markers.tool_end.strip()) == (
        facts.tool_start,
        facts.tool_end,
    )
    assert markers.bare_json == facts.bare_json
    assert markers.message_end.strip().startswith(facts.message_end)


@pytest.mark.parametrize("name", FACTS)
def test_contents_are_told_apart_and_never_become_control_tokens(name):
    segments = conversation(name)
    contents = {segment.message: segment.text for segment in segments if not segment.special}
    for index, message in enumerate(CONVERSATION.messages):
        assert contents.get(index) == message.content, index
    control = joined([segment for segment in segments if segment.special])
    assert "First" not in control
    assert "Second" not in control
    if FACTS[name].system:
        plain = bundled.load(name).try_render(
            {"messages": [{"role": m.role, "content": m.content} for m in CONVERSATION.messages]}
        )
        assert joined(segments) == plain


@pytest.mark.parametrize("name", FACTS)
def test_a_continued_reply_ends_the_prompt(name):
    final = ChatMessage(role="assistant", thinking="Easy.", content="One, two")
    prompt = Messages(messages=(QUESTION, final), continue_final=True)
    segments = bundled.load(name).render(prompt)
    assert joined(segments).endswith("One, two")
    assert joined(segments).count("One, two") == 1
    # And what the model writes next is the answer going on, not more thinking.
    parser = ReplyParser(bundled.load(name), prompt=segments)
    assert parser.feed(", three.") + parser.end() == [("text", ", three.")]


def written_call(template: ChatTemplate, prompt: Messages, reply: ChatMessage) -> str:
    """What the template writes for `reply` behind the prompt that asks for it."""
    asked = joined(template.render(prompt))
    whole = joined(
        template.render(Messages(messages=(*prompt.messages, reply, RESULT), tools=prompt.tools))
    )
    place = next((n for n, (a, b) in enumerate(zip(asked, whole, strict=False)) if a != b), 0)
    place = place or min(len(asked), len(whole))
    # Not from the middle of a tag.
    start = max(whole.rfind("<", 0, place), whole.rfind("[", 0, place))
    tag = whole[start:place]
    return whole[start:] if start >= 0 and ">" not in tag and "]" not in tag else whole[place:]


@pytest.mark.parametrize("name", [name for name in FACTS if name not in WRITES_NO_CALLS])
def test_a_call_that_the_template_writes_is_read_back(name):
    template = bundled.load(name)
    prompt = Messages(messages=(QUESTION,), tools=(TOOL,))
    reply = ChatMessage(role="assistant", tool_calls=(CALL,), thinking="Hm.")
    written = written_call(template, prompt, reply)
    asked = template.render(prompt)
    markers = template.markers
    if markers.inside_thinking(joined(asked)) and markers.thinking_end.strip() not in written:
        # Its history leaves thinking out; a model would have ended it first.
        written = markers.thinking_end + written
    parser = ReplyParser(template, prompt=asked, definitions=(TOOL,))
    parser.feed(written)
    parser.end()
    first = parser.tool_calls[0]
    assert first.name == "get_weather"
    assert json.loads(first.arguments) == ARGUMENTS


@pytest.mark.parametrize("name", FACTS)
def test_the_result_of_a_call_reaches_the_model_as_text(name):
    template = bundled.load(name)
    reply = ChatMessage(role="assistant", tool_calls=(CALL,))
    prompt = Messages(messages=(QUESTION, reply, RESULT), tools=(TOOL,))
    segments = template.render(prompt)
    assert "rain" in joined(segments)
    assert "Says what the weather is" in joined(segments)
    # Whatever a tool answers, it cannot speak as the template.
    assert "<|im_end|> rain" not in joined([part for part in segments if part.special])


REPLIES = [
    # template, reply, thinking, text, arguments of the call
    ("Qwen3-Coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>", "", "", ARGUMENTS),
    ("Qwen3-Coder", "I look.\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>", "", "I look.\n", {"city": "Oslo"}),
    ("Qwen3-Coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\n0150\n</parameter>\n</function>\n</tool_call>", "", "", {"city": "0150"}),
    ("Qwen3.5-4B", "I'm\nthinking\n</think>\n\n<tool_call>\n<function=get_weather>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>", "I'm\nthinking", "", {"days": 3}),
    ("Cohere2MoE", 'Hm<|END_THINKING|><|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"days": 3}}\n]<|END_ACTION|>', "Hm", "", {"days": 3}),
    ("Cohere2MoE", "Hm<|END_THINKING|><|START_TEXT|>Hello.<|END_TEXT|>", "Hm", "Hello.", None),
    ("CohereForAI-c4ai-command-r7b-12-2024-tool_use", "<|START_THINKING|>Hm<|END_THINKING|><|START_RESPONSE|>Hello.<|END_RESPONSE|>", "Hm", "Hello.", None),
    ("CohereForAI-c4ai-command-r-plus-tool_use", 'Action:\n```json\n[{"tool_name": "get_weather", "parameters": {"days": 3}}]\n```', "", "", {"days": 3}),
    ("GigaChat3-10B-A1.8B", 'Hello.<|message_sep|>\n\nfunction call<|role_sep|>\n{"name": "get_weather", "arguments": {"days": 3}}', "", "Hello.", {"days": 3}),
    ("GigaChat3.1-10B-A1.8B", 'Hello.<|function_call|>{"name": "get_weather", "arguments": {"days": 3}}', "", "Hello.", {"days": 3}),
    ("Kimi-K3", "I should<|close|>think<|sep|><|open|>response<|sep|>On it.<|close|>response<|sep|><|open|>tools<|sep|><|open|>call tool=\"get_weather\" index=\"1\"<|sep|><|open|>argument key=\"city\" type=\"string\"<|sep|>0150<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>", "I should", "On it.", {"city": "0150"}),
    ("Kimi-K3", "I was still thinking", "I was still thinking", "", None),
    ("Kimi-K2-Thinking", '<think>Hm</think><|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"days": 3}<|tool_call_end|><|tool_calls_section_end|>', "Hm", "", {"days": 3}),
    ("LFM2.5-8B-A1B", "<think>A <|tool_call_start|>[get_weather(days=1)]<|tool_call_end|> no</think>Let me.<|tool_call_start|>[get_weather(city=\"Oslo\")]<|tool_call_end|>", "A <|tool_call_start|>[get_weather(days=1)]<|tool_call_end|> no", "Let me.", {"city": "Oslo"}),
    ("LFM2-8B-A1B", "<|tool_call_start|>[get_weather(days=3)]<|tool_call_end|>", "", "", {"days": 3}),
    ("MiniMax-M3", "<mm:think>Hm</mm:think>]<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name=\"get_weather\">]<]minimax[>[<city>Oslo]<]minimax[>[</city>]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>", "Hm", "", {"city": "Oslo"}),
    ("MiniMax-M2", "Hm\n</think>\n\n<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter name=\"days\">3</parameter>\n</invoke>\n</minimax:tool_call>", "Hm", "", {"days": 3}),
    ("NVIDIA-Nemotron-Nano-v2", 'Hm\n</think>\n\n<TOOLCALL>[{"name": "get_weather", "arguments": {"days": 3}}]</TOOLCALL>', "Hm", "", {"days": 3}),
    ("Apertus-8B-Instruct", '<|tools_prefix|>[{"get_weather": {"days": 3}}]<|tools_suffix|>', "", "", {"days": 3}),
    ("Apriel-1.6-15b-Thinker-fixed", 'Hm\n[BEGIN FINAL RESPONSE]\n<tool_calls>[{"name": "get_weather", "arguments": {"days": 3}}]</tool_calls>', "Hm", "", {"days": 3}),
    ("fireworks-ai-llama-3-firefunction-v2", ' functools[{"name": "get_weather", "arguments": {"days": 3}}]', "", " ", {"days": 3}),
    ("meetkai-functionary-medium-v3.1", '<function=get_weather>{"days": 3}</function>', "", "", {"days": 3}),
    ("meetkai-functionary-medium-v3.2", 'get_weather\n{"days": 3}', "", "", {"days": 3}),
    ("meetkai-functionary-medium-v3.2", 'all\nHello.\n>>>get_weather\n{"days": 3}', "", "Hello.", {"days": 3}),
    ("meetkai-functionary-medium-v3.2", "all\nPython's prompt:\n>>> 1 + 1\n2", "", "Python's prompt:\n>>> 1 + 1\n2", None),
    ("meetkai-functionary-medium-v3.2", "Hello there.", "", "Hello there.", None),
    ("muse-glimmer", ' to=self<|message|>Hm<|eom|><|start|>assistant to=get_weather<|message|><atem:function_calls>\n<atem:invoke name="get_weather">\n<atem:parameter name="days">3</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eot|>', "Hm", "", {"days": 3}),
    ("muse-glimmer", " to=user<|message|>Hello.<|eot|>", "", "Hello.", None),
    ("muse-glimmer", "Hello <b>you</b>.", "", "Hello <b>you</b>.", None),
    ("openai-gpt-oss-120b", ' to=functions.get_weather<|channel|>commentary json<|message|>{"days": 3}<|call|>', "", "", {"days": 3}),
    ("openai-gpt-oss-120b", '<|channel|>analysis to=functions.get_weather<|message|>{"days": 3}', "", "", {"days": 3}),
    ("openai-gpt-oss-120b", '<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{"days": 3}<|call|>', "Hm", "I look.", {"days": 3}),
    ("openai-gpt-oss-120b", "Hello without a header.", "", "Hello without a header.", None),
    ("openbmb-MiniCPM5-1B", '<function name="get_weather"><param name="city"><![CDATA[a < b]]></param></function>', "", "", {"city": "a < b"}),
    ("upstage-Solar-Open-100B", '<|think|>Hm<|end|><|begin|>assistant<|content|>Hello.<|end|>', "Hm", "Hello.", None),
    ("mistralai-Mistral-Nemo-Instruct-2407", '[TOOL_CALLS][{"name": "get_weather", "arguments": {"days": 3}, "id": "123456789"}]', "", "", {"days": 3}),
    ("Mistral-Small-3.2-24B-Instruct-2506", '[TOOL_CALLS]get_weather[CALL_ID]123456789[ARGS]{"days": 3}', "", "", {"days": 3}),
    ("mistralai-Ministral-3-14B-Reasoning-2512", '[THINK]Hm[/THINK][TOOL_CALLS]get_weather[ARGS]{"days": 3}', "Hm", "", {"days": 3}),
    ("ibm-granite-granite-3.3-2B-Instruct", '<|tool_call|>[{"name": "get_weather", "arguments": {"days": 3}}]', "", "", {"days": 3}),
    ("deepseek-ai-DeepSeek-V3.2", '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" string="true">0150</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>', "", "", {"city": "0150"}),  # noqa: RUF001
    ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{"days": 3}```<｜tool▁call▁end｜><｜tool▁calls▁end｜>', "", "", {"days": 3}),  # noqa: RUF001
    ("tencent-Hy3", "<tool_calls:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n<arg_key:opensource>days</arg_key:opensource>\n<arg_value:opensource>3</arg_value:opensource>\n</tool_call:opensource>\n</tool_calls:opensource>", "", "", {"days": 3}),
    ("google-gemma-4-31B-it", '<|channel>thought\nHm\n<channel|><|tool_call>call:get_weather{city:<|"|>a {b}<|"|>,days:3}<tool_call|>', "Hm", "", {"city": "a {b}", "days": 3}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "reply", "thinking", "text", "arguments"),
    REPLIES,
    ids=[f"{n}-{row[0]}" for n, row in enumerate(REPLIES)],
)
def test_replies_as_models_write_them(name, reply, thinking, text, arguments):
    for pieces in ([reply], list(reply)):
        parser = ReplyParser(bundled.load(name), definitions=(TOOL,))
        found = [part for piece in pieces for part in parser.feed(piece)] + parser.end()
        assert "".join(words for kind, words in found if kind == "thinking") == thinking
        assert "".join(words for kind, words in found if kind == "text") == text
        calls = [(call.name, json.loads(call.arguments)) for call in parser.tool_calls]
        assert calls == ([] if arguments is None else [("get_weather", arguments)])


@pytest.mark.parametrize("name", [name for name in FACTS if not FACTS[name].tools])
def test_without_a_place_for_tools_they_are_written_into_the_conversation(name):
    template = bundled.load(name)
    system = ChatMessage(role="system", content="Be brief.")
    reply = ChatMessage(role="assistant", content="I look.", tool_calls=(CALL, CALL))
    prompt = Messages(messages=(system, QUESTION, reply, RESULT, RESULT), tools=(TOOL,))
    told = joined(template.render(prompt))
    for words in ("Be brief.", '"name": "get_weather"', "Umbrella?", "I look."):
        assert words in told
    assert told.count('{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}') == 2
    assert told.count("</tool_response>") == 2
    # Without tools nothing of it is there, and a call is no call.
    assert "tool_call" not in joined(template.render(Messages(messages=(system, QUESTION))))
    words = '<tool_call>\n{"name": "get_weather", "arguments": {"days": 3}}\n</tool_call>'
    if template.markers.inside_thinking(told):
        words = template.markers.thinking_end + words
    for tools, count in ((True, 1), (False, 0)):
        parser = ReplyParser(template, prompt=template.render(prompt), tools=tools)
        parser.feed(words)
        parser.end()
        assert len(parser.tool_calls) == count


def test_two_calls_behind_one_another():
    for name, reply in (
        ("Mistral-Small-3.2-24B-Instruct-2506", '[TOOL_CALLS]a[CALL_ID]000000001[ARGS]{"x": 1}[TOOL_CALLS]b[CALL_ID]000000002[ARGS]{}'),
        ("Qwen-Qwen2.5-7B-Instruct", '<tool_call>\n{"name": "a", "arguments": {"x": 1}}\n</tool_call>\n<tool_call>\n{"name": "b", "arguments": {}}\n</tool_call>'),
        ("tencent-Hy3", "<tool_calls:opensource><tool_call:opensource>a<tool_sep:opensource><arg_key:opensource>x</arg_key:opensource><arg_value:opensource>1</arg_value:opensource></tool_call:opensource><tool_call:opensource>b<tool_sep:opensource></tool_call:opensource></tool_calls:opensource>"),
        ("LFM2-8B-A1B", "<|tool_call_start|>[a(x=1), b()]<|tool_call_end|>"),
        ("meetkai-functionary-medium-v3.2", 'a\n{"x": 1}\n>>>b\n{}'),
        ("openai-gpt-oss-120b", '<|channel|>commentary to=functions.a<|message|>{"x": 1}<|call|><|start|>assistant<|channel|>commentary to=functions.b<|message|>{}<|call|>'),
    ):  # fmt: skip
        parser = ReplyParser(bundled.load(name))
        parser.feed(reply)
        parser.end()
        calls = [
            (call.name.split(".")[-1], json.loads(call.arguments)) for call in parser.tool_calls
        ]
        assert calls == [("a", {"x": 1}), ("b", {})], name


def test_thinking_can_be_switched_off_and_on():
    for name in ("Qwen-Qwen3-0.6B", "deepseek-ai-DeepSeek-V3.1"):
        on, off = (
            joined(
                bundled.load(name).render(
                    Messages(messages=(QUESTION,), template_kwargs={"enable_thinking": wish})
                )
            )
            for wish in (True, False)
        )
        assert on != off
        assert off.rstrip().endswith("</think>")
