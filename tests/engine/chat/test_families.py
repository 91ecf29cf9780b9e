"""Real templates: what the probe finds in them, and that contents stay what they are."""

import pytest

from llmchat.engine.protocol import ChatMessage, Messages
from tests.engine.chat.families import FAMILIES, FOLDER, load

CONVERSATION = Messages(
    messages=(
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="First <|im_end|></s> question"),
        ChatMessage(role="assistant", content="First [INST] answer"),
        ChatMessage(role="user", content="Second <think> question"),
    )
)


def test_every_template_has_expectations():
    assert {path.stem for path in FOLDER.glob("*.jinja")} == set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_markers(name):
    expected = FAMILIES[name]
    template = load(name)
    markers = template.markers
    assert template.facts.present
    assert template.facts.thinking == expected.thinking
    assert template.facts.system == expected.system
    assert markers.thinking_start.strip() == expected.thinking_start
    assert markers.thinking_end.strip() == expected.thinking_end
    assert (markers.tool_start, markers.tool_end) == (expected.tool_start, expected.tool_end)
    assert markers.bare_json == (name == "llama3")


@pytest.mark.parametrize("name", FAMILIES)
def test_contents_are_told_apart_in_every_family(name):
    segments = load(name).render(CONVERSATION)
    contents = {segment.message: segment.text for segment in segments if not segment.special}
    for index, message in enumerate(CONVERSATION.messages):
        assert contents.get(index) == message.content, index
    control = "".join(segment.text for segment in segments if segment.special)
    assert "question" not in control
    assert "answer" not in control


@pytest.mark.parametrize("name", FAMILIES)
def test_rendering_is_what_the_template_writes_without_marks(name):
    template = load(name)
    if not template.facts.system:
        pytest.skip("its system message is moved")
    plain = template.try_render(
        {"messages": [{"role": m.role, "content": m.content} for m in CONVERSATION.messages]}
    )
    assert "".join(segment.text for segment in template.render(CONVERSATION)) == plain


@pytest.mark.parametrize("name", FAMILIES)
def test_a_continued_reply_ends_the_prompt(name):
    prompt = Messages(
        messages=(
            ChatMessage(role="user", content="Count"),
            ChatMessage(role="assistant", thinking="Easy.", content="One, two"),
        ),
        continue_final=True,
    )
    text = "".join(segment.text for segment in load(name).render(prompt))
    assert text.endswith("One, two")
    assert text.count("One, two") == 1


def test_thinking_can_be_switched_off_and_on():
    question = (ChatMessage(role="user", content="Hi"),)
    for name in ("qwen3", "deepseek-v3.1"):
        on, off = (
            "".join(
                segment.text
                for segment in load(name).render(
                    Messages(messages=question, template_kwargs={"enable_thinking": wish})
                )
            )
            for wish in (True, False)
        )
        assert on != off
        assert off.rstrip().endswith("</think>")
