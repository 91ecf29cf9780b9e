"""Conversations from the command line: replay, personas, set, and where a search looks."""

import json
from typing import Any

import pytest

from llmchat.paths import Places
from tests.cli.program import run

pytestmark = pytest.mark.usefixtures("script")


def only_chat() -> dict[str, Any]:
    (chat,) = json.loads(run("chats", "list", "-a", "--json").stdout)
    found: dict[str, Any] = chat
    return found


def test_a_reply_is_run_again(model: str, script):
    answer = json.loads(run("run", model, "Capital of France?", "--json").stdout)
    same = run("chats", "replay", answer["conversation"])
    assert (same.returncode, same.stdout, same.stderr) == (0, "", "The same words.\n")
    script("rate=0;say=Not Paris.")
    other = run("chats", "replay", answer["message"])
    assert (other.returncode, other.stdout) == (1, "{+Not +}Paris.\n")
    whole = json.loads(run("chats", "replay", answer["message"], "--json").stdout)
    assert (whole["same"], whole["saved"], whole["now"]) == (False, None, "Not Paris.")
    shown = json.loads(run("chats", "show", answer["conversation"], "--json").stdout)
    assert shown["messages"][1]["siblings"] == [answer["message"]]
    assert run("chats", "replay", answer["conversation"], "--save").returncode == 1
    shown = json.loads(run("chats", "show", answer["conversation"], "--json").stdout)
    assert len(shown["messages"][1]["siblings"]) == 2
    assert run("chats", "replay", "nonsense").returncode == 3


def test_personas_are_listed_shown_and_used(model: str, places: Places):
    places.personas.mkdir(parents=True)
    (places.personas / "pirate.toml").write_text(
        'about = "Arr"\nsystem = "Be a pirate."\nsampling.temperature = 1.5\n'
    )
    (places.personas / "odd.toml").write_text("sytem = 1\n")
    listed = run("personas")
    assert listed.stdout.split() == ["NAME", "ABOUT", "odd", "-", "pirate", "Arr"]
    assert "odd.toml:1: There is no setting sytem." in listed.stderr
    shown = run("personas", "show", "pirate").stdout
    assert 'system = "Be a pirate."\n' in shown
    assert "sampling.temperature = 1.5\n" in shown
    assert run("personas", "show", "nobody").returncode == 3
    assert run("run", model, "hi", "--persona", "nobody").returncode == 3
    assert run("run", model, "hi", "--persona", "pirate").returncode == 0
    chat = only_chat()
    assert chat["settings"]["persona"] == "pirate"
    messages = json.loads(run("chats", "show", chat["id"], "--json").stdout)["messages"]
    made = messages[1]["generation"]["settings"]
    assert made["system"] == {"value": "Be a pirate.", "source": "persona"}
    assert made["sampling.temperature"] == {"value": 1.5, "source": "persona"}


def test_a_conversation_is_named_filed_pinned_and_given_a_persona(model: str, places: Places):
    places.personas.mkdir(parents=True)
    (places.personas / "pirate.toml").write_text('system = "Be a pirate."\n')
    run("run", model, "hi")
    id_ = only_chat()["id"]
    words = ["--title", "Harbour", "--pin", "--folder", "Sea", "--persona", "pirate"]
    assert run("chats", "set", id_, *words).returncode == 0
    chat = only_chat()
    assert (chat["title"], chat["pinned"], chat["folder"]) == ("Harbour", True, "Sea")
    assert chat["settings"]["persona"] == "pirate"
    gone = ["--unpin", "--folder", "", "--persona", ""]
    assert run("chats", "set", "Harbour", *gone).returncode == 0
    chat = only_chat()
    assert (chat["title"], chat["pinned"], chat["folder"]) == ("Harbour", False, None)
    assert "persona" not in chat["settings"]
    assert run("chats", "set", id_).returncode == 2
    assert run("chats", "set", id_, "--persona", "nobody").returncode == 3
    assert run("chats", "set", "nonsense", "--pin").returncode == 3


def test_a_search_looks_within_a_model_and_days(model: str):
    run("run", model, "Where do dragons sleep?")

    def code(*words: str) -> int:
        return run("chats", "search", *words).returncode

    assert code("paris", "--model", "SOME-model") == 0
    assert code("paris", "--model", "another") == 3
    assert code("paris", "--since", "2000-01-01") == 0
    assert code("paris", "--since", "2999-01-01") == 3
    assert code("paris", "--until", "2000-01-01") == 3
    assert code("paris", "--until", "2999-01-01") == 0
    assert code("dragons", "--model", "some-model", "--since", "2000-01-01") == 0  # its title
    assert code("paris", "--since", "yesterday") == 2
