"""`llmchat run` on a real terminal: Ctrl+C, thinking, the picker, cleaning, and the screen."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import model, nothing_left, script
from tests.cli.program import LLMCHAT, run
from tests.tty.terminal import Terminal

__all__ = ["model", "nothing_left", "script"]

pytestmark = [pytest.mark.tty, pytest.mark.usefixtures("script")]


def last_reply() -> dict[str, Any]:
    (chat,) = json.loads(run("chats", "list", "--all", "--json").stdout)
    reply: dict[str, Any] = json.loads(run("chats", "show", chat["id"], "--json").stdout)[
        "messages"
    ][-1]
    return reply


def test_ctrl_c_stops_the_answer_and_keeps_what_was_written(model: str, script):
    script("rate=100;words=100000")
    with Terminal([LLMCHAT, "run", model, "hi"]) as terminal:
        terminal.wait_for(r"\w+ \w+ \w+ \w+ \w+ \w+")
        terminal.press("ctrl+c")
        assert terminal.wait_exit() == 130
        assert terminal.restored()
    reply = last_reply()
    assert reply["status"] == "complete"
    assert reply["generation"]["finish"] == "cancelled"
    assert len(reply["parts"][0]["text"].split()) >= 6


def test_term_stops_the_answer_and_keeps_what_was_written(model: str, script):
    script("rate=100;words=100000")
    with Terminal([LLMCHAT, "run", model, "hi"]) as terminal:
        terminal.wait_for(r"\w+ \w+ \w+ \w+ \w+ \w+")
        terminal.process.terminate()
        assert terminal.wait_exit() == 128 + signal.SIGTERM
    assert last_reply()["generation"]["finish"] == "cancelled"


def test_ctrl_c_while_the_model_loads(model: str, script):
    script("load=60")
    with Terminal([LLMCHAT, "run", model, "hi"]) as terminal:
        terminal.wait_for("loading")
        terminal.press("ctrl+c")
        assert terminal.wait_exit() == 130
        assert terminal.restored()


def test_a_second_ctrl_c_does_not_wait_for_a_deaf_model(model: str, script):
    script("rate=100;words=100000;deaf=true")
    with Terminal([LLMCHAT, "run", model, "hi"]) as terminal:
        terminal.wait_for(r"\w+ \w+ \w+ \w+ \w+ \w+")
        terminal.press("ctrl+c")
        terminal.press("ctrl+c")
        assert terminal.wait_exit() == 130
        assert "Traceback" not in terminal.text
    run("stop", "--all", "--force")


def test_thinking_is_dim_and_on_the_terminal_only(model: str, script):
    script("rate=0;say=Paris.;think=Let me see")
    with Terminal([LLMCHAT, "run", model, "hi"]) as terminal:
        assert terminal.wait_exit() == 0
        assert b"\x1b[2mLet" in terminal.raw
        assert "Paris." in terminal.text
    with Terminal([LLMCHAT, "run", model, "hi"], env={"NO_COLOR": "1"}) as terminal:
        terminal.wait_exit()
        assert b"\x1b[2m" not in terminal.raw
        assert "Let me see" in terminal.text
    with Terminal([LLMCHAT, "run", model, "--hidethinking", "hi"]) as terminal:
        terminal.wait_exit()
        assert "Let me see" not in terminal.text


def test_only_our_own_sequences_reach_the_terminal(model: str, script, tmp_path: Path):
    told = tmp_path / "script.json"
    told.write_text(
        json.dumps({"rate": 0, "say": "a\x1b]52;c;aGk=\x07\x9b31m", "think": "\x1b[2J\x1b]0;x\x07"})
    )
    script(str(told))
    with Terminal([LLMCHAT, "run", model, "hi"]) as terminal:
        assert terminal.wait_exit() == 0
        rest = bytes(terminal.raw)
        for ours in (b"\x1b[K", b"\x1b[2m", b"\x1b[0m"):
            rest = rest.replace(ours, b"")
        assert b"\x1b" not in rest
        assert b"\xc2\x9b" not in rest


def test_the_picker_asks_which_model(model: str, tmp_path: Path):
    for name in ("first", "second"):
        folder = tmp_path / "hf" / f"models--owner--{name}" / "snapshots" / ("0" * 40)
        folder.mkdir(parents=True)
        (folder / f"{name}.Q4_K_M.gguf").write_bytes(Path(model).read_bytes())
    with Terminal([LLMCHAT, "run", "what is it?"]) as terminal:
        terminal.wait_for("Which model")
        terminal.wait_for("smollm2:135m")
        terminal.type("7\n2\n")
        assert terminal.wait_exit() == 0
        assert "Paris." in terminal.text
    (chat,) = json.loads(run("chats", "list", "--all", "--json").stdout)
    assert chat["settings"]["model"] == "owner/second:Q4_K_M"


def test_leaving_the_picker(model: str):
    with Terminal([LLMCHAT, "run", "what is it?"]) as terminal:
        terminal.wait_for("Which model")
        terminal.press("ctrl+c")
        assert terminal.wait_exit() == 130
    assert run("list", "--json").stdout == "[]\n"


def test_choosing_the_conversation_to_go_on_with(model: str):
    run("run", model, "about dragons")
    run("run", model, "about unicorns")
    with Terminal([LLMCHAT, "run", "and then?", "-r"]) as terminal:
        terminal.wait_for(r"1  about unicorns")
        terminal.type("dragon\n")
        assert terminal.wait_exit() == 0
        assert "Paris." in terminal.text
    found = json.loads(run("chats", "list", "--all", "--json").stdout)
    (dragons,) = [chat["id"] for chat in found if chat["title"] == "about dragons"]
    messages = json.loads(run("chats", "show", dragons, "--json").stdout)["messages"]
    assert messages[2]["parts"][0]["text"] == "and then?"
    assert run("run", "and then?", "-r").returncode == 2


def test_no_bar_and_no_escape_in_a_pipe(model: str, script):
    script("load=1;rate=0;say=Paris.")
    done = run("run", model, "hi")
    assert (done.stdout, done.stderr) == ("Paris.\n", "")


@pytest.mark.parametrize("redirect", ["</dev/null", ">/dev/null", "2>/dev/null"])
def test_the_chat_needs_all_three_to_be_the_terminal(redirect: str):
    with Terminal(["bash", "-c", f"{LLMCHAT} {redirect}; echo code $?"]) as terminal:
        terminal.wait_exit()
        assert "code 2" in terminal.text
        assert b"\x1b" not in terminal.raw


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_dumb_terminal_is_refused(term: str):
    with Terminal([LLMCHAT], env={"TERM": term}) as terminal:
        assert terminal.wait_exit() == 2
        assert "cannot draw" in terminal.text
        assert b"\x1b" not in terminal.raw


def test_nothing_of_the_screen_is_imported_for_an_answer(model: str):
    code = (
        "import sys; from llmchat.cli.main import main\n"
        f"code = main(['run', {model!r}, 'hi'])\n"
        "assert not {'textual', 'rich', 'huggingface_hub', 'llama_cpp', 'numpy'} & set(sys.modules)"
        "\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
