"""A model that only scripted workers can load, and nothing left running."""

from pathlib import Path

import pytest

from tests.engine.conftest import nothing_left

__all__ = ["nothing_left"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file that looks like a model."""
    path = tmp_path / "some-model.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    return str(path)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """Tells the workers what to do; they leave with their last client."""

    def tell(words: str) -> None:
        monkeypatch.setenv("LLMCHAT_ENGINE", f"scripted:{words}")

    monkeypatch.setenv("LLMCHAT_CHAT_KEEP_ALIVE", "0")
    tell("rate=0;say=Paris.")
    return tell
