"""Conversations from the command line: replay, personas, set, and where a search looks."""

import json
from pathlib import Path
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


def listed(*words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("chats", "list", "-a", "--json", *words).stdout)
    return found


def test_a_fork_leaves_the_conversation_as_it_was(model: str):
    run("run", model, "first")
    (original,) = listed()
    assert run("run", "-c", "--fork", "second").returncode == 0
    copy, same = listed()
    assert same["id"] == original["id"]
    assert same["active_leaf"] == original["active_leaf"]
    shown = run("chats", "show", copy["id"]).stdout
    assert "first" in shown
    assert "second" in shown
    # From a message: the copy ends there.
    at = original["active_leaf"]
    assert run("run", "-r", at, "--fork", "third").returncode == 0
    assert "second" not in run("chats", "show", listed()[0]["id"]).stdout
    assert run("run", model, "hi", "--fork").returncode == 2


def test_lists_are_filed_and_sorted(model: str):
    for title, folder in (("Beta", "Sea"), ("alpha", "Sea"), ("Gamma", "")):
        run("run", model, title)
        run("chats", "set", listed()[0]["id"], "--title", title, "--folder", folder)
    assert [chat["title"] for chat in listed("--sort", "title")] == ["alpha", "Beta", "Gamma"]
    assert [chat["title"] for chat in listed("--folder", "Sea")] == ["alpha", "Beta"]
    assert [chat["title"] for chat in listed("--sort", "created", "--limit", "1")] == ["Gamma"]


def test_what_is_attached_is_told_with_its_size(model: str, tmp_path: Path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.py").write_text("x = 1\n")
    (folder / "b.bin").write_bytes(bytes(range(256)))
    done = run("run", model, "what is it?", "-f", str(folder))
    assert done.returncode == 0
    assert "a.py" in done.stderr
    assert "about 2 tokens" in done.stderr
    assert run("run", model, "hi", "-f", str(folder / "b.bin")).returncode == 2
    (folder / "i.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    refused = run("run", model, "hi", "-f", str(folder / "i.png"))
    assert refused.returncode == 2
    assert "pictures" in refused.stderr


def test_a_conversation_is_summed_up_and_says_what_is_in_force(model: str, places: Places):
    places.presets.mkdir(parents=True)
    (places.presets / "wild.toml").write_text('about = "Anything goes"\nmax_tokens = 77\n')
    assert "Anything goes" in run("presets").stdout
    assert run("run", model, "one", "--preset", "wild").returncode == 0
    assert run("run", "-c", "two").returncode == 0
    (chat,) = listed()
    in_force = json.loads(run("chats", "settings", chat["id"], "--json").stdout)
    assert in_force["max_tokens"] == {"value": 77, "source": "preset"}
    assert in_force["preset"] == {"value": "wild", "source": "conversation"}
    done = run("chats", "compact", chat["id"], "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["text"]
    assert run("chats", "show", chat["id"]).stdout.count("## ") == 3
    assert run("chats", "compact", chat["id"]).returncode == 2  # one turn is left
    assert run("chats", "summary", chat["id"]).stdout.strip() == json.loads(done.stdout)["text"]
    changed = run("chats", "summary", chat["id"], "--set", "-", given="My words.\nTwo lines.\n")
    assert changed.stdout == "My words.\nTwo lines.\n"
    assert "My words." in run("chats", "show", chat["id"]).stdout
    assert run("chats", "summary", chat["id"], "--edit").returncode == 2  # no terminal here
    assert run("chats", "summary", chat["id"], "--set", "").returncode == 2
    whole = run("chats", "export", chat["id"], "--format", "json").stdout
    assert json.loads(done.stdout)["text"] in whole  # the version before


def test_in_a_pipe_nobody_is_asked_what_to_leave_out(model: str, script):
    script("rate=0;n_ctx=64;say=ok")
    for _ in range(3):
        run("run", *(["-c"] if listed() else [model]), "word " * 14)
    done = run("run", "-c", "word " * 14, "-o", "context_policy", "ask")
    assert done.returncode == 1
    assert "tokens" in done.stderr
