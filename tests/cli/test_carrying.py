"""Conversations as files: out of one home and into another, through the installed program."""

import json
from pathlib import Path

import pytest

from tests.cli.program import run

pytestmark = pytest.mark.usefixtures("script")

HOSTILE = "see \x1b[2J\u202e<script>alert(1)</script>"


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """Another home than the test's own."""
    return {"LLMCHAT_HOME": str(tmp_path / "other")}


def listed(env: dict[str, str] | None = None) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        run("chats", "list", "-a", "--json", env=env).stdout
    )
    return found


def test_everything_moves_to_another_home_and_back_out_the_same(
    model: str, tmp_path: Path, elsewhere: dict[str, str]
):
    run("run", model, "Where do dragons sleep?")
    run("run", model, "-c", HOSTILE)
    run("run", model, "And 🐋?")
    file = tmp_path / "all.json"
    done = run("chats", "export", "--all", "-o", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    assert "Written to" in done.stderr
    moved = run("chats", "import", str(file), env=elsewhere)
    assert moved.returncode == 0
    assert moved.stdout.count("\n") == 2
    assert [c["id"] for c in listed(elsewhere)] == [c["id"] for c in listed()]
    assert run("chats", "export", "-a", "--format", "json", env=elsewhere).stdout.encode().decode(
        "utf-8"
    ) == run("chats", "export", "-a", "--format", "json").stdout  # fmt: skip
    again = json.loads(run("chats", "import", "--json", str(file), env=elsewhere).stdout)
    assert [c["new"] for each in again for c in each["conversations"]] == [False, False]
    assert "here already" in run("chats", "import", str(file), env=elsewhere).stderr
    assert len(listed(elsewhere)) == 2
    run("chats", "import", "--again", str(file), env=elsewhere)
    assert len(listed(elsewhere)) == 4


def test_a_branch_in_every_format(model: str, tmp_path: Path):
    run("run", model, HOSTILE)
    (chat,) = listed()
    shown = json.loads(run("chats", "show", str(chat["id"]), "--json").stdout)
    question = shown["messages"][0]["id"]
    branch = json.loads(
        run("chats", "export", "--branch", question.lower(), "--format", "json").stdout
    )
    (only,) = branch["conversations"]
    assert [message["id"] for message in only["messages"]] == [question]
    page = tmp_path / "chat.html"
    assert run("chats", "export", str(chat["id"]), "-o", str(page)).returncode == 0
    assert "<script" not in page.read_text(encoding="utf-8")
    lines = tmp_path / "chat.jsonl"
    run("chats", "export", str(chat["id"]), "-o", str(lines))
    said = json.loads(lines.read_text(encoding="utf-8"))["messages"]
    assert said[0] == {"role": "user", "content": HOSTILE}
    words = tmp_path / "chat.md"
    run("chats", "export", str(chat["id"]), "-o", str(words))
    assert HOSTILE in words.read_text(encoding="utf-8")  # a file keeps what was said


@pytest.mark.parametrize("kind", ["md", "json", "jsonl", "html"])
def test_what_is_printed_cannot_act_on_a_terminal(model: str, kind: str):
    run("run", model, HOSTILE)
    printed = run("chats", "export", "-a", "--format", kind).stdout
    assert "see" in printed
    assert "\x1b" not in printed
    assert "\u202e" not in printed


@pytest.mark.parametrize("words", [[], ["some", "--all"], ["--all", "--branch", "x"]])
def test_what_to_export_is_asked_for_once(words: list[str]):
    done = run("chats", "export", *words)
    assert done.returncode == 2
    assert "--all" in done.stderr


def test_a_file_is_never_written_over_nor_left_half(tmp_path: Path):
    file = tmp_path / "mine.md"
    file.write_text("mine")
    assert run("chats", "export", "--all", "-o", str(file)).returncode == 2
    assert file.read_text() == "mine"
    missing = tmp_path / "new.md"
    assert run("chats", "export", "nonsense", "-o", str(missing)).returncode == 3
    assert not missing.exists()
    nowhere = run("chats", "export", "--all", "-o", str(tmp_path / "no" / "where.md"))
    assert nowhere.returncode == 1
    assert "cannot be written" in nowhere.stderr


def test_one_bad_file_does_not_keep_the_others_out(tmp_path: Path):
    good, bad = tmp_path / "good.json", tmp_path / "bad\x1b[2J.json"
    good.write_text(json.dumps([{"role": "user", "content": "hello from afar"}]))
    bad.write_text("nonsense")
    done = run("chats", "import", "--json", str(bad), str(good), str(tmp_path / "missing"))
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert ["error" in each for each in told] == [True, False, True]
    assert told[1]["format"] == "openai"
    assert "no JSON" in done.stderr
    assert "\x1b" not in done.stderr
    assert run("chats", "search", "afar").returncode == 0
    piped = run("chats", "import", "-", given='{"messages":[{"role":"user","content":"pipe"}]}')
    assert piped.returncode == 0
    assert "1 new" in piped.stderr
