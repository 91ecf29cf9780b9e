"""F7 with the real screen: however it dies, the terminal is as it was and the words are kept."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import model, nothing_left, script
from tests.cli.program import LLMCHAT
from tests.tty.terminal import Terminal
from tests.tty.test_guardian import gone, modes_left, state_of

__all__ = ["model", "nothing_left", "script"]

pytestmark = [pytest.mark.tty, pytest.mark.usefixtures("script")]


def screen(model: str) -> Terminal:
    return Terminal([LLMCHAT, "run", model])


def child_of(terminal: Terminal) -> int:
    """The process behind the guardian, once it shows the composer."""
    terminal.wait_for("Write a message")
    listed = subprocess.run(
        ["ps", "--ppid", str(terminal.process.pid), "-o", "pid="],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(listed.stdout)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_a_signal_to_the_screen(model: str, name: str):
    number = signal.Signals[name]
    with screen(model) as terminal:
        os.kill(child_of(terminal), number)
        # One that is handled may end in order, with code 0 or 128+n.
        assert terminal.wait_exit() in (0, 128 + number)
        assert terminal.restored()
        assert modes_left(bytes(terminal.raw)) == set()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_to_the_guardian(model: str, name: str):
    number = signal.Signals[name]
    with screen(model) as terminal:
        child = child_of(terminal)
        terminal.process.send_signal(number)
        assert terminal.wait_exit() == 128 + number
        assert gone(child)
        assert terminal.restored()
        assert modes_left(bytes(terminal.raw)) == set()


def test_quitting(model: str):
    with screen(model) as terminal:
        child_of(terminal)
        terminal.press("ctrl+q")
        assert terminal.wait_exit() == 0
        assert terminal.restored()
        assert modes_left(bytes(terminal.raw)) == set()


def test_the_screen_leaves_in_order_when_the_guardian_is_killed(model: str):
    with screen(model) as terminal:
        child = child_of(terminal)
        terminal.process.kill()
        terminal.wait(lambda: gone(child), "the screen's end")
        while terminal.read():
            pass
        assert modes_left(bytes(terminal.raw)) == set()


def test_stopping_and_going_on(model: str):
    with screen(model) as terminal:
        child, guardian = child_of(terminal), terminal.process.pid
        os.kill(child, signal.SIGTSTP)
        terminal.wait(lambda: state_of(guardian) == "T", "the guardian to stop, too")
        assert terminal.restored()
        while terminal.read():
            pass
        assert modes_left(bytes(terminal.raw)) == set()
        seen = len(terminal.raw)
        os.killpg(guardian, signal.SIGCONT)
        terminal.wait(lambda: b"\x1b[?1049h" in terminal.raw[seen:], "the screen again")
        terminal.type("still here")
        terminal.wait_for("still here")
        terminal.press("ctrl+q")
        assert terminal.wait_exit() == 0
        assert terminal.restored()
        assert modes_left(bytes(terminal.raw)) == set()


def test_the_terminal_goes_away(model: str, home: Path):
    """Closing the window: nothing of us stays behind."""
    terminal = screen(model)
    child = child_of(terminal)
    os.close(terminal.follower)
    os.close(terminal.leader)
    deadline = time.monotonic() + 20
    while not gone(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        assert gone(child)
        terminal.process.wait(timeout=10)
    finally:
        terminal.process.kill()
        terminal.process.wait(timeout=10)
