"""What every test gets: a home of its own, no network, and nothing left running."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.paths import Places, find_places
from tests import models

# A shell that runs the tests in the background has these ignored, and whoever is started inherits
# that: nothing that a test interrupts would end.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """LLMCHAT_HOME and the Hugging Face cache in a temporary folder; no settings, no tokens."""
    for name in list(os.environ):
        if name.startswith(("LLMCHAT_", "HF_", "HUGGING", "OLLAMA_", "LLAMA_")):
            monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):  # the runner's, not a test's
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "home"
    root.mkdir(mode=0o700)
    monkeypatch.setenv("LLMCHAT_HOME", str(root))
    monkeypatch.setenv("LLMCHAT_MACHINE", str(root / "machine"))  # nobody waits for another's load
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    # Nothing is ever asked of the real hub; a test of the hub sets its own endpoint.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("LLMCHAT_LANG", "en")
    monkeypatch.setenv("TERM", "xterm-256color")
    yield root
    run = find_places({"LLMCHAT_HOME": str(root)}).run
    if run.is_relative_to("/tmp") and run.name.startswith("llmchat-"):
        shutil.rmtree(run, ignore_errors=True)


@pytest.fixture
def places(home: Path) -> Places:
    """Where this test's llmchat keeps its things."""
    return find_places()


@pytest.fixture(scope="session")
def starter() -> Path:
    """The real starter model's file."""
    return models.starter()
