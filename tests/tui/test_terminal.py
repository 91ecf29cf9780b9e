"""The chat in a real terminal, over the real Runtime and scripted workers."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from llmchat.paths import find_places
from tests.tty.terminal import Terminal

pytestmark = pytest.mark.tty

RUN = "import sys; from llmchat.tui.app import run_tui; sys.exit(run_tui())"


def chat(home: Path, **more) -> Terminal:
    """`run_tui` without the guardian: what Textual and we do ourselves."""
    env = {"LLMCHAT_HOME": str(home), "LLMCHAT_ENGINE": "scripted"}
    return Terminal([sys.executable, "-c", RUN], env=env, **more)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_signal_leaves_a_clean_terminal_a_code_and_the_draft(home: Path, number: signal.Signals):
    with chat(home) as terminal:
        terminal.wait_for("Enter pulls")
        terminal.type("half a thought")
        terminal.wait_for("half a thought")
        terminal.process.send_signal(number)
        assert terminal.wait_exit() == 128 + number
        assert terminal.restored()
        assert b"\x1b[?1049l" in terminal.raw
        assert terminal.raw.rstrip().rfind(b"\x1b[?1049h") < terminal.raw.rfind(b"\x1b[?1049l")
    drafts = find_places({"LLMCHAT_HOME": str(home)}).state / "drafts.json"
    assert json.loads(drafts.read_text()) == {"new": "half a thought"}


def test_ctrl_q_leaves_with_0(home: Path):
    with chat(home) as terminal:
        terminal.wait_for("no model")
        terminal.press("ctrl+q")
        assert terminal.wait_exit() == 0
        assert terminal.restored()


def test_keys_typed_in_one_burst_keep_their_order(home: Path):
    with chat(home) as terminal:
        terminal.wait_for("no model")
        terminal.type("first\nsecond\x1b\r")
        terminal.wait_for("second")
        terminal.type("third")
        terminal.wait_for(r"first\s+│[\s\S]*second\s+│[\s\S]*third")


def test_a_home_that_cannot_be_written_is_a_notice_and_the_chat_goes_on(home: Path):
    (home / "data").write_text("no folder")
    with chat(home) as terminal:
        terminal.wait_for("kept in memory")
        terminal.press("ctrl+q")
        assert terminal.wait_exit() == 0


@pytest.mark.parametrize(("columns", "lines"), [(1, 1), (3, 10), (24, 20), (200, 60)])
def test_no_size_breaks_it(home: Path, columns: int, lines: int):
    with chat(home, columns=100, lines=30) as terminal:
        terminal.wait_for("no model")
        terminal.resize(columns, lines)
        os.kill(terminal.process.pid, signal.SIGWINCH)
        terminal.read(0.2)
        terminal.resize(100, 30)
        os.kill(terminal.process.pid, signal.SIGWINCH)
        terminal.wait_for("Enter send")
        while terminal.read(0.3):  # until it has drawn the new size, once or twice
            pass
        terminal.type("still here")
        terminal.wait_for("still here")
        terminal.press("ctrl+q")
        assert terminal.wait_exit() == 0
