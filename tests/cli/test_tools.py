"""`run --tool` and `--tool-result`: what is called, and what goes back to the model."""

import json
from pathlib import Path

import pytest

from llmchat.cli.tooling import result_parts
from llmchat.core import prompting
from llmchat.errors import UsageError
from llmchat.values import Message, Part
from tests.cli.program import run

pytestmark = pytest.mark.usefixtures("script")

WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}
CALL = 'rate=0;say=I look.;tool=get_weather {"city": "Oslo"}'


@pytest.fixture
def tool(tmp_path: Path) -> str:
    path = tmp_path / "weather.json"
    path.write_text(json.dumps(WEATHER), encoding="utf-8")
    return str(path)


def test_a_call_is_a_line_of_json_below_the_words(model: str, script, tool: str):
    script(CALL)
    done = run("run", model, "--tool", tool, "Umbrella?")
    assert done.returncode == 0
    words, call = done.stdout.splitlines()
    assert words == "I look."
    assert json.loads(call) == {
        "id": "call_1",
        "name": "get_weather",
        "arguments": {"city": "Oslo"},
    }


def test_json_has_the_calls_apart(model: str, script, tool: str):
    script(CALL)
    answer = json.loads(run("run", model, "--json", "--tool", tool, "Umbrella?").stdout)
    assert answer["text"].strip() == "I look."
    assert [call["name"] for call in answer["tool_calls"]] == ["get_weather"]
    assert answer["finish"] == "tool_calls"


def test_results_go_to_the_call_and_more_than_were_asked_are_refused(model: str, script, tool: str):
    script(CALL)
    run("run", model, "--tool", tool, "Umbrella?")
    script("rate=0;say=Take one.")
    done = run("run", "-c", "--tool", tool, "--tool-result", "call_1=rain=heavy", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["text"].strip()) == (0, "Take one.")
    chat = json.loads(run("chats", "show", answer["conversation"], "--json").stdout)
    (result,) = [message for message in chat["messages"] if message["role"] == "tool"]
    (part,) = result["parts"]
    assert (part["text"], part["meta"]) == ("rain=heavy", {"id": "call_1", "name": "get_weather"})
    refused = run("run", "-c", "--tool-result", "more")
    assert refused.returncode == 2
    assert "0 calls" in refused.stderr


def test_tools_stay_with_their_conversation(model: str, script, tool: str, tmp_path: Path):
    script(CALL)
    run("run", model, "--tool", tool, "Umbrella?")
    script("rate=0;say=Take one.")
    done = run("run", "-c", "--tool-result", "rain", "--json")
    assert done.returncode == 0
    assert offered(done.stdout) == (["get_weather"], "conversation")
    other = tmp_path / "other.json"
    other.write_text(json.dumps([WEATHER | {"name": "a"}, WEATHER | {"name": "b"}]))
    done = run("run", "-c", "--tool", str(other), "And now?", "--json")
    assert offered(done.stdout)[0] == ["a", "b"]
    chat = json.loads(done.stdout)["conversation"]
    assert offered(run("run", "-c", "--fork", "Here?", "--json").stdout)[0] == ["a", "b"]
    file = tmp_path / "chat.json"
    run("chats", "export", chat, "-o", str(file))
    run("chats", "rm", "-y", "--purge", chat)
    assert run("chats", "import", str(file)).returncode == 0
    assert offered(run("run", "-r", chat, "Again?", "--json").stdout)[0] == ["a", "b"]
    assert run("chats", "set", chat, "--no-tools").returncode == 0
    assert offered(run("run", "-r", chat, "Again?", "--json").stdout)[0] == []


def offered(answer: str) -> tuple[list[str], str]:
    """The names of the tools that a reply was offered, and the layer that set them."""
    conversation = json.loads(answer)["conversation"]
    chat = json.loads(run("chats", "show", conversation, "--json").stdout)
    origin = chat["messages"][-1]["generation"]["settings"].get(
        "tools", {"value": [], "source": ""}
    )
    return [tool["function"]["name"] for tool in origin["value"]], origin["source"]


def test_results_are_given_by_id_or_in_order():
    calls = [Part(kind="tool_call", meta={"id": name, "name": f"f{name}"}) for name in "ab"]
    asked = Message(id="m", conversation="c", parent=None, role="assistant", parts=tuple(calls))
    for results, expected in (
        (["one", "two"], [("a", "one"), ("b", "two")]),
        (["b=two", "one"], [("b", "two"), ("a", "one")]),
        (["x=1"], [("a", "x=1")]),
    ):
        found = result_parts(results, asked)
        assert [(part.meta["id"], part.text) for part in found] == expected
    for results in (["1", "2", "3"], ["a=1", "a=2", "3"]):
        with pytest.raises(UsageError):
            result_parts(results, asked)
    with pytest.raises(UsageError):
        result_parts(["1"], None)


@pytest.mark.parametrize("content", ["", "[1]", '{"name": 5}', '{"type": "function"}', "no json"])
def test_a_file_that_defines_no_tool_is_one_sentence(model: str, tmp_path: Path, content):
    path = tmp_path / "broken.json"
    path.write_text(content, encoding="utf-8")
    done = run("run", model, "--tool", str(path), "Umbrella?")
    assert done.returncode == 2
    assert "broken.json defines no tool" in done.stderr
    assert run("run", model, "--tool", "nothing.json", "Umbrella?").returncode != 0


def test_calls_and_results_are_what_the_model_reads():
    def message(role, *parts: Part) -> Message:
        return Message(id=role, conversation="c", parent=None, role=role, parts=parts)

    call = Part(kind="tool_call", text='{"x": 1}', meta={"id": "call_0", "name": "f"})
    results = [
        Part(kind="tool_result", text=text, meta={"id": "call_0", "name": "f"})
        for text in ("one", "two")
    ]
    words = Part(kind="text", text="words")
    branch = [message("user", words), message("assistant", call), message("tool", *results)]
    said = [
        line.message for line in prompting.lines([*branch, message("assistant", words)], "", {})
    ]
    assert [each.role for each in said] == ["user", "assistant", "tool", "tool", "assistant"]
    assert said[1].tool_calls[0].arguments == '{"x": 1}'
    assert [each.content for each in said[2:4]] == ["one", "two"]
    assert said[2].tool_call_id == "call_0"
    # A reply with a call is not joined with the one that follows it.
    twice = [
        line.message for line in prompting.lines([branch[1], message("assistant", words)], "", {})
    ]
    assert len(twice) == 2
