"""A document that takes most of a minute to read: it is told, and nobody has to wait for it."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import model, nothing_left, script
from tests.cli.program import LLMCHAT
from tests.core.test_attaching import pdf
from tests.tty.terminal import Terminal
from tests.tty.test_screen_deaths import child_of

__all__ = ["model", "nothing_left", "script"]

pytestmark = [pytest.mark.tty, pytest.mark.usefixtures("script")]

SOON = 20
"""Seconds: far less than the document takes, far more than leaving does."""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "long.pdf"
    path.write_bytes(pdf(") Tj (x" * 200_000, pages=10))
    return path


def reads(pid: int) -> bool:
    """Whether a process has a document taken apart."""
    listed = subprocess.run(
        ["ps", "-ww", "--ppid", str(pid), "-o", "args="], capture_output=True, text=True
    )
    return "llmchat.core.attaching.documents" in listed.stdout


def test_ctrl_c_while_it_is_read(model: str, document: Path):
    with Terminal([LLMCHAT, "run", model, "-f", str(document), "hi"]) as terminal:
        terminal.wait_for("Reading .*long.pdf")
        terminal.wait(lambda: reads(terminal.process.pid), "its reader")
        terminal.press("ctrl+c")
        assert terminal.wait_exit(SOON) == 130
        assert terminal.restored()


def test_quitting_the_chat_while_it_is_read(model: str, document: Path):
    with Terminal([LLMCHAT, "run", model]) as terminal:
        screen = child_of(terminal)
        terminal.type(f"/attach {document}")
        terminal.press("enter")
        terminal.wait_for("reading long.pdf")
        terminal.wait(lambda: reads(screen), "its reader")
        terminal.press("ctrl+q")
        assert terminal.wait_exit(SOON) == 0
        assert terminal.restored()
