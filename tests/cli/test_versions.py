"""The tree from the command line: several answers at once, other versions, choosing, restoring."""

import json
from typing import Any

import pytest

from llmchat.cli.versions import in_order
from llmchat.values import Message
from tests.cli.program import run

pytestmark = pytest.mark.usefixtures("script")


def ok(*words: str, given: str = "") -> str:
    done = run(*words, given=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def asked(model: str, words: str = "Capital of France?", *more: str) -> dict[str, Any]:
    """One question; what its answer's JSON says."""
    found: dict[str, Any] = json.loads(ok("run", model, words, "--json", *more))
    return found


def branch(chat: str) -> list[str]:
    messages = json.loads(ok("chats", "show", chat, "--json"))["messages"]
    return ["".join(part["text"] for part in one["parts"]) for one in messages]


def ids(chat: str) -> list[str]:
    return [one["id"] for one in json.loads(ok("chats", "tree", chat, "--json"))["messages"]]


def test_several_answers_at_once(model: str, script):
    script("rate=0;say=Paris.")
    assert ok("run", model, "hi", "--alternatives", "3") == (
        "[1/3]\nParis.\n\n[2/3]\n(2) Paris.\n\n[3/3]\n(3) Paris.\n"
    )
    assert ok("run", model, "hi", "--alternatives", "2", "--raw") == (
        "[1/2]\nParis.\n\n[2/2]\n(2) Paris.\n"
    )
    done = run("run", model, "hi", "--alternatives", "2", "--json", "--stats")
    answers = json.loads(done.stdout)
    assert [one["text"] for one in answers] == ["Paris.", "(2) Paris."]
    assert done.stderr.count("first token after") == 2
    chat = answers[0]["conversation"]
    assert ids(chat)[1:] == [one["message"] for one in answers]
    assert branch(chat) == ["hi", "Paris."]
    for count in ("0", "65"):
        refused = run("run", model, "hi", "--alternatives", count)
        assert (refused.returncode, refused.stdout) == (2, "")


def test_a_reply_is_answered_again_and_goes_on(model: str, script):
    first = asked(model)
    chat = first["conversation"]
    script("rate=0;say=Lyon.")
    assert ok("chats", "regenerate", chat) == "Lyon.\n"
    assert branch(chat) == ["Capital of France?", "Lyon."]
    twice = ok("chats", "regenerate", first["message"], "--alternatives", "2", "--temp", "0.5")
    assert twice == "[1/2]\nLyon.\n\n[2/2]\n(2) Lyon.\n"
    messages = json.loads(ok("chats", "tree", chat, "--json"))["messages"]
    assert [len(one["siblings"]) for one in messages] == [1, 4, 4, 4, 4]
    used = messages[-1]["generation"]["settings"]["sampling.temperature"]
    assert used["value"] == 0.5
    assert ok("chats", "continue", first["message"]) == "Paris.Lyon.\n"
    assert branch(chat)[-1] == "Paris.Lyon."
    assert run("chats", "continue", messages[0]["id"]).returncode == 2
    assert run("chats", "continue", chat, "--alternatives", "2").returncode == 2


def test_a_question_and_a_reply_are_edited(model: str, script):
    first = asked(model, "Capital of Frnce?")
    chat, (question, reply) = first["conversation"], ids(first["conversation"])
    script("rate=0;say=Rome.")
    assert ok("chats", "edit", question, "--set", "Capital of Italy?") == "Rome.\n"
    assert branch(chat) == ["Capital of Italy?", "Rome."]
    fresh = ok("chats", "edit", question[-8:], "--set", "-", "--no-answer", given="And?\n").strip()
    assert branch(chat) == ["And?"]
    assert ids(chat)[-1] == fresh
    changed = ok("chats", "edit", reply, "--set", "Paris, I think.").strip()
    assert branch(chat) == ["Capital of Frnce?", "Paris, I think."]
    assert ok("chats", "edit", changed, "--set", "No:", "--answer") == "No:Rome.\n"
    assert run("chats", "edit", reply, "--set", "Paris.").returncode == 1  # it says so already
    for wrong in (("--set", " "), (), ("--set", "x", "--alternatives", "2")):
        assert run("chats", "edit", reply, *wrong).returncode == 2
    assert run("chats", "edit", "nothing", "--set", "x").returncode == 3


def test_a_summary_is_never_answered(model: str, script):
    chat = asked(model)["conversation"]
    for words in ("two", "three"):
        ok("run", model, "-r", chat, words)
    ok("chats", "compact", chat, "--keep", "1")
    summary = json.loads(ok("chats", "show", chat, "--json"))["messages"][0]
    assert summary["role"] == "system"
    before = len(ids(chat))
    ok("chats", "edit", summary["id"], "--set", "In short.", "--answer")
    assert branch(chat)[0] == "In short."
    assert len(ids(chat)) > before


def test_files_stay_attached_to_an_edited_question(model: str, tmp_path):
    (tmp_path / "notes.txt").write_text("milk")
    first = asked(model, "what?", "-f", str(tmp_path / "notes.txt"))
    ok("chats", "edit", ids(first["conversation"])[0], "--set", "what then?")
    messages = json.loads(ok("chats", "show", first["conversation"], "--json"))["messages"]
    assert [part["kind"] for part in messages[0]["parts"]] == ["file", "text"]


def test_the_tree_is_drawn_and_a_version_chosen(model: str, script):
    first = asked(model)
    chat, (question, reply) = first["conversation"], ids(first["conversation"])
    script("rate=0;say=Lyon.")
    ok("chats", "regenerate", chat)
    lines = [line.split() for line in ok("chats", "tree", chat).splitlines()[1:]]
    assert lines[0] == ["*", question, "user", "Capital", "of", "France?"]
    assert lines[1] == [reply, "assistant", "1/2", "·", "Paris."]
    assert lines[2][2:] == ["assistant", "2/2", "·", "Lyon."]
    told = run("chats", "select", reply).stderr
    assert reply in told
    assert "Paris." in told
    assert branch(chat)[-1] == "Paris."
    assert run("chats", "select", "nothing").returncode == 3
    assert run("chats", "tree", "nothing").returncode == 3


def test_messages_and_conversations_are_deleted_and_restored(model: str, script):
    first = asked(model)
    chat, (question, reply) = first["conversation"], ids(first["conversation"])
    told = run("chats", "rm", "-y", reply[-10:]).stderr
    assert "Paris." in told
    assert f"chats restore {reply}" in told
    assert branch(chat) == ["Capital of France?"]
    assert run("chats", "rm", "-y", question).returncode == 0
    assert branch(chat) == []
    inner = run("chats", "restore", reply)
    assert (inner.returncode, f"restore {question}" in inner.stderr) == (3, True)
    assert ok("chats", "restore", question) == ""
    assert branch(chat) == ["Capital of France?"]  # what was deleted before stays so
    ok("chats", "restore", reply)
    assert branch(chat) == ["Capital of France?", "Paris."]
    assert run("chats", "restore", reply).returncode == 3
    assert run("chats", "rm", "-y", "nothing").returncode == 3
    assert run("chats", "restore", "nothing").returncode == 3
    assert "Paris." in ok("chats", "export", "--branch", reply[-10:])
    assert "The same words" in run("chats", "replay", reply[-10:]).stderr
    assert run("chats", "rm", "-y", "--purge", reply).returncode == 2
    ok("chats", "rm", "-y", chat)
    assert run("chats", "show", chat).returncode == 3
    assert chat in ok("chats", "list", "--deleted")
    ok("chats", "restore", chat[-10:])
    assert branch(chat) == ["Capital of France?", "Paris."]
    assert chat not in ok("chats", "list", "--deleted")


def test_a_deep_tree_is_put_in_order():
    def message(id_: str, parent: str | None) -> Message:
        return Message(id=id_, conversation="c", parent=parent, role="user", parts=())

    chain = [message(str(n), str(n - 1) if n else None) for n in range(5_000)]
    forked = [*chain, message("a", "1"), message("b", "a"), message("c", "1")]
    found = [(depth, one.id) for depth, one in in_order(forked)]
    assert found[:3] == [(0, "0"), (0, "1"), (1, "2")]
    assert found[-3:] == [(1, "a"), (1, "b"), (1, "c")]
    assert len(found) == len(forked)
