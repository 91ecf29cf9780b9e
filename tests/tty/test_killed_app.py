"""The whole program, killed with -9 while a reply is written, twenty times: test plan, A2."""

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from llmchat.paths import Places
from tests.engine.conftest import nothing_left, workers_of
from tests.tty.terminal import Terminal

__all__ = ["nothing_left"]

pytestmark = [pytest.mark.tty, pytest.mark.timeout(300)]

LLMCHAT = str(Path(sys.executable).with_name("llmchat"))
KILLS = 20
SEED = 20262
RATE = 300
"""Words a second that the scripted worker writes."""


def words_of(kill: int) -> str:
    """A reply that no other round writes."""
    return " ".join(f"k{kill}w{number}" for number in range(1, 3000))


def numbers(kill: int, text: str) -> list[int]:
    return [int(number) for number in re.findall(rf"\bk{kill}w(\d+)\b", text)]


def saved(database: Path) -> list[tuple[str, str, str]]:
    """Every message in order: role, status, text with what was still in pieces."""
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    rows = db.execute(
        """SELECT role, status,
            coalesce((SELECT group_concat(text, '') FROM
                (SELECT text FROM part WHERE message = seq ORDER BY position)), '') ||
            coalesce((SELECT group_concat(text, '') FROM
                (SELECT text FROM piece WHERE message = seq ORDER BY number)), '')
        FROM message ORDER BY seq"""
    ).fetchall()
    (integrity,) = db.execute("PRAGMA integrity_check").fetchone()
    db.close()
    assert integrity == "ok"
    return [(str(role), str(status), str(text)) for role, status, text in rows]


def kill_the_screen(terminal: Terminal) -> None:
    """-9 to the process that draws, not to the guardian of the terminal above it."""
    child = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(terminal.process.pid)], capture_output=True, text=True
    )
    os.kill(int(child.stdout.split()[0]), signal.SIGKILL)


def wait_for_word(terminal: Terminal, kill: int, number: int) -> None:
    def is_there() -> bool:
        return max(numbers(kill, terminal.text), default=0) >= number

    terminal.wait(is_there, f"word {number} of round {kill}")


def test_twenty_kills_cost_no_question_and_a_second_of_a_reply_at_most(
    places: Places, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = tmp_path / "some-model.gguf"
    model.write_bytes(b"GGUF" + bytes(60))
    monkeypatch.setenv("LLMCHAT_CHAT_MODEL", str(model))
    monkeypatch.setenv("LLMCHAT_CHAT_KEEP_ALIVE", "0")
    seed = random.Random(SEED)
    missing: list[int] = []
    for kill in range(KILLS):
        script = f"scripted:rate={RATE};n_ctx=1000000;say={words_of(kill)}"
        env = {"LLMCHAT_ENGINE": script}
        with Terminal([LLMCHAT], columns=100, lines=30, timeout=60, env=env) as t:
            t.wait_for(r"The program ended while|Write a message")
            t.type(f"question number {kill}.")
            t.wait_for(rf"question number {kill}\.")
            t.press("enter")
            wait_for_word(t, kill, seed.randrange(5, 2 * RATE))
            kill_the_screen(t)
            assert t.wait_exit() == 128 + signal.SIGKILL
            assert t.restored()
            shown = max(numbers(kill, t.text))
            t.wait(lambda: not workers_of(home), "the worker to leave with its last client")
        messages = saved(places.database)
        assert messages[-2][0] == "user"
        assert messages[-2][2] == f"question number {kill}."
        kept = numbers(kill, messages[-1][2])
        assert kept == list(range(1, len(kept) + 1))
        missing.append(shown - len(kept))
    sys.stdout.write(
        f"seed {SEED}: {KILLS} kills, 0 questions lost; words shown and not saved:"
        f" at most {max(missing)}, {max(missing) / RATE:.2f} s of them\n"
    )
    # A checkpoint a second; a second more for a machine that does other things.
    assert max(missing) <= 2 * RATE
    with Terminal([LLMCHAT], columns=100, lines=30, timeout=60) as t:
        t.wait_for("The program ended while this was being written")
        t.press("ctrl+q")
        assert t.wait_exit() == 0
    assert all(status in ("complete", "interrupted") for _, status, _ in saved(places.database))
