"""F7: eleven ways to die, and the terminal is as it was after each."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.tty.terminal import Terminal

pytestmark = pytest.mark.tty
STAND_IN = str(Path(__file__).with_name("stand_in.py"))
ROOT = str(Path(__file__).parents[2])
NORMALLY_ON = {"7", "25"}


def modes_left(raw: bytes) -> set[str]:
    """Private modes that are not as a fresh terminal has them, and kitty flags not popped."""
    state: dict[str, bool] = {}
    for numbers, letter in re.findall(rb"\x1b\[\?([\d;]+)([hl])", raw):
        for number in numbers.decode().split(";"):
            state[number] = letter == b"h"
    left = {n for n, on in state.items() if on != (n in NORMALLY_ON)}
    pushed, popped = len(re.findall(rb"\x1b\[>\d+u", raw)), len(re.findall(rb"\x1b\[<\d*u", raw))
    return left | ({"kitty"} if popped < pushed else set())


def start(way: str) -> Terminal:
    return Terminal([sys.executable, STAND_IN, way], env={"PYTHONPATH": ROOT})


def child_of(terminal: Terminal) -> int:
    return int(terminal.wait_for(r"PID=(\d+) READY")[1])


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("way", "code"),
    [
        ("quit", 0),
        ("exception", 1),
        ("thread", 1),
        ("sys.exit", 7),
        ("os._exit", 9),
        ("abort", 128 + signal.SIGABRT),
        ("SEGV", 128 + signal.SIGSEGV),
    ],
)
def test_the_terminal_is_back_after_the_child_ends(way: str, code: int):
    with start(way) as terminal:
        assert terminal.wait_exit() == code
        assert terminal.restored()
        assert modes_left(bytes(terminal.raw)) == set()
        if code > 128:
            assert f"died of {signal.Signals(code - 128).name}" in terminal.text


def test_one_who_left_by_himself_does_not_leave_the_screen_twice():
    with start("quit") as terminal:
        terminal.wait_exit()
        assert terminal.raw.count(b"\x1b[?1049l") == 1


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGINT"])
def test_the_terminal_is_back_after_a_signal_to_the_child(name: str):
    number = signal.Signals[name]
    with start("wait") as terminal:
        os.kill(child_of(terminal), number)
        # Python turns SIGINT into KeyboardInterrupt and then dies of it again.
        assert terminal.wait_exit() == 128 + number
        assert terminal.restored()
        assert modes_left(bytes(terminal.raw)) == set()
        assert name in terminal.text


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGQUIT", "SIGINT"])
def test_a_signal_to_the_guardian_reaches_the_child(name: str):
    number = signal.Signals[name]
    with start("wait") as terminal:
        child = child_of(terminal)
        terminal.process.send_signal(number)
        assert terminal.wait_exit() == 128 + number
        assert gone(child)
        assert terminal.restored()
        assert modes_left(bytes(terminal.raw)) == set()


def test_a_child_that_does_not_hear_term_is_killed_after_the_grace():
    with start("deaf") as terminal:
        terminal.wait_for("DEAF")
        terminal.process.terminate()
        assert terminal.wait_exit(timeout=20) == 128 + signal.SIGKILL
        assert terminal.restored()


def test_the_child_dies_with_the_guardian():
    with start("wait") as terminal:
        child = child_of(terminal)
        terminal.process.kill()
        terminal.wait(lambda: gone(child), "the child's death")


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("whole_group", [True, False], ids=["fg", "CONT for the guardian alone"])
def test_stopping_and_going_on(whole_group: bool):
    with start("wait") as terminal:
        child, guardian = child_of(terminal), terminal.process.pid
        os.kill(child, signal.SIGTSTP)
        terminal.wait(lambda: state_of(guardian) == "T", "the guardian to stop, too")
        assert terminal.restored()
        while terminal.read():
            pass
        assert modes_left(bytes(terminal.raw)) == set()

        if whole_group:
            os.killpg(guardian, signal.SIGCONT)
        else:
            os.kill(guardian, signal.SIGCONT)
        terminal.wait_for("AWAKE")
        settled = time.monotonic() + 0.3  # longer than the guardian waits before it wakes the child
        terminal.wait(lambda: time.monotonic() > settled, "a second waking")
        assert terminal.raw.count(b"AWAKE") == 1
        os.kill(child, signal.SIGKILL)
        assert terminal.wait_exit() == 128 + signal.SIGKILL
        assert terminal.restored()
        assert modes_left(bytes(terminal.raw)) == set()


def test_a_child_that_is_stopped_hard_gives_the_terminal_to_the_shell():
    with start("wait") as terminal:
        child, guardian = child_of(terminal), terminal.process.pid
        os.kill(child, signal.SIGSTOP)
        terminal.wait(lambda: state_of(guardian) == "T", "the guardian to stop, too")
        assert terminal.restored()
        while terminal.read():
            pass
        assert modes_left(bytes(terminal.raw)) == set()


def test_the_portable_way_to_notice_that_the_guardian_is_gone():
    program = (
        "import os, signal, time; from llmchat.cli.guardian import _watch\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(3))\n"
        "import threading; r, w = os.pipe()\n"
        "threading.Thread(target=_watch, args=(r,), daemon=True).start()\n"
        "os.close(w); time.sleep(30)"
    )
    with Terminal([sys.executable, "-c", program], env={"PYTHONPATH": ROOT}) as terminal:
        assert terminal.wait_exit() == 3
