"""Whatever a model, a person or a file says, only our own sequences reach the terminal."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tty.terminal import Terminal

pytestmark = [pytest.mark.tty, pytest.mark.timeout(120)]

LLMCHAT = str(Path(sys.executable).with_name("llmchat"))
CANARY = "PWNED"
PAYLOADS = (
    f"\x1b]52;c;{'UFdORUQ='}\x07",  # the clipboard
    f"\x1b]0;{CANARY}\x07",  # the title
    f"\x1b]2;{CANARY}\x1b\\",
    f"\x1b]8;;https://evil.example\x1b\\{CANARY}\x1b]8;;\x1b\\",  # a hidden link
    "\x1b[2J\x1b[H",  # clears the screen
    "\x1b[31m\x1b[8m",
    "\x1b[?1049l\x1b[?1000h",  # leaves our screen, turns the mouse on
    "\x1b[6n\x1b[c\x1b[>q",  # makes the terminal answer, which types
    "\x1bP$qm\x1b\\",  # DCS
    f"\x1b_G{CANARY}\x1b\\",  # APC: kitty's images
    f"\x1b^{CANARY}\x1b\\",  # PM
    "\x1bc",  # a full reset
    "\x9d52;c;UFdORUQ=\x9c\x9b31m\x90x\x9c",  # C1
    "\x07\x08\x7f\x0b\x0c\x0e\x0f",
    "\r\x1b[1A\x1b[2K",
    "\u202egpj.exe\u2066x\u2069\u200f",  # bidi
    "".join(chr(0xE0000 + ord(c)) for c in CANARY),  # invisible tags
    "\u2028\u2029\ufeff\u200b\u2060",
)

OURS = re.compile(
    rb"\x1b\[[0-9;:]*m"  # colours
    rb"|\x1b\[[0-9;]*[HABCDJK]"  # the cursor, clearing
    rb"|\x1b\[\?(?:1000|1002|1003|1006|1015|1004|1016|1049|2004|2026|2048|25|7)[hl]"  # modes
    rb"|\x1b\[\?(?:2026|2048)\$p"  # does the terminal know them
    rb"|\x1b\[[<>=?]?[0-9;]*u"  # kitty's keyboard
    rb"|\x1b\[>4;[0-9]m|\x1b\[22;0;0t|\x1b\[23;0;0t|\x1b\[c"
    rb"|\x1b\[\d* q|\x1b\]22;[a-z-]*\x07"  # the shapes of the cursor and the pointer
)
BAD = re.compile(
    "[\x00-\x06\x08\x0b-\x0c\x0e-\x1b\x7f-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)


def foreign(raw: bytes) -> list[str]:
    """What is in the output that is neither text nor a sequence of ours."""
    rest = OURS.sub(b"", raw).decode("utf-8", "replace")
    return [rest[max(0, m.start() - 20) : m.end() + 30] for m in BAD.finditer(rest)]


def everywhere(payload: str) -> str:
    """A reply that has the payload wherever Markdown may put it."""
    return (
        f"words {payload} more\n\n```py\ncode {payload}\n```\n\n"
        f"| a | b |\n|---|---|\n| {payload} | x |\n\n[text {payload}](https://a.example/{payload})\n\n"
        f"- item {payload}\n\n> quote {payload}\n\n# head {payload}\n\nthe end"
    )


def scripted(tmp_path: Path, **script) -> str:
    path = tmp_path / "script.json"
    path.write_text(json.dumps(script))
    return f"scripted:{path}"


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in-pieces"])
def test_replies_thinking_titles_and_search(home: Path, tmp_path: Path, whole: bool):
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF" + bytes(60))
    said = "\n\n".join(everywhere(payload) for payload in PAYLOADS)
    env = {
        "LLMCHAT_HOME": str(home),
        "LLMCHAT_CHAT_KEEP_ALIVE": "0",
        "LLMCHAT_CHAT_MODEL": str(model),
        "LLMCHAT_ENGINE": scripted(
            tmp_path, rate=0 if whole else 2000, say=said, think=" ".join(PAYLOADS)
        ),
    }
    with Terminal([LLMCHAT], columns=100, lines=30, env=env, timeout=60) as t:
        t.wait_for("Write a message")
        t.type(f"\x1b[200~Tell {PAYLOADS[11]}{PAYLOADS[12]}{PAYLOADS[15]}{PAYLOADS[16]}\x1b[201~")
        t.wait_for("Tell")
        t.press("enter")
        t.wait_for("the end")
        t.wait_for("Ready")
        t.type("\x0b")
        t.wait_for("Search every")
        t.type("words")
        t.wait_for(r"reply")
        t.press("escape")
        t.wait_gone("Esc close")
        t.press("f4")
        t.wait_for("This conversation")
        t.press("ctrl+q")
        assert t.wait_exit() == 0
        assert foreign(bytes(t.raw)) == []


def test_the_sentence_of_an_error(home: Path, tmp_path: Path):
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF" + bytes(60))
    env = {
        "LLMCHAT_HOME": str(home),
        "LLMCHAT_CHAT_KEEP_ALIVE": "0",
        "LLMCHAT_CHAT_MODEL": str(model),
        "LLMCHAT_ENGINE": scripted(
            tmp_path, words=5, fail="internal", message=" ".join(PAYLOADS) + " sentence"
        ),
    }
    with Terminal([LLMCHAT], columns=100, lines=30, env=env, timeout=60) as t:
        t.wait_for("Write a message")
        t.type("hello")
        t.press("enter")
        t.wait_for("sentence")
        t.press("ctrl+q")
        assert t.wait_exit() == 0
        assert foreign(bytes(t.raw)) == []


def test_the_measure_finds_what_it_should():
    for payload in PAYLOADS[:4]:
        assert foreign(payload.encode())


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_in_tmux_the_clipboard_and_the_title_stay(home: Path, tmp_path: Path):
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF" + bytes(60))
    said = "\n\n".join(everywhere(payload) for payload in PAYLOADS)
    socket = tmp_path / "tmux"
    script = scripted(tmp_path, rate=0, say=said)  # once: the worker reads it when it likes

    def tmux(*words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(socket), "-f", "/dev/null", *words],
            capture_output=True,
            text=True,
            timeout=30,
            env={
                "PATH": "/usr/bin:/bin",
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
                "LLMCHAT_HOME": str(home),
                "LLMCHAT_MACHINE": str(home / "machine"),
                "LLMCHAT_CHAT_KEEP_ALIVE": "0",
                "LLMCHAT_CHAT_MODEL": str(model),
                "LLMCHAT_ENGINE": script,
            },
        )
        return done.stdout

    def until_shows(words: str) -> None:
        import time

        end = time.monotonic() + 60
        while words not in tmux("capture-pane", "-p"):
            assert time.monotonic() < end, tmux("capture-pane", "-p")

    try:
        tmux("new-session", "-d", "-x", "100", "-y", "30", LLMCHAT)
        tmux("set-option", "-g", "set-clipboard", "on")
        tmux("set-buffer", "mine")
        until_shows("Write a message")
        tmux("send-keys", "-l", "hello")
        until_shows("hello")
        tmux("send-keys", "Enter")
        until_shows("the end")
        until_shows("Ready")
        assert tmux("show-buffer") == "mine"
        assert CANARY not in tmux("display-message", "-p", "#{pane_title}")
        tmux("send-keys", "C-q")
    finally:
        tmux("kill-server")
