"""An app over a fake Runtime, and waiting for conditions instead of sleeping."""

import asyncio
import time
from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from llmchat.paths import Places
from llmchat.tui.app import LlmchatApp
from tests.tui.fake import NOW, STARTER, FakeRuntime

DEADLINE = 20.0


async def until(pilot: Pilot[None], condition: Callable[[], object], what: str = "") -> None:
    """Let the app run until `condition` holds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what or condition}"
        await pilot.pause(0.01)


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """No animation, so that a screen is a state."""
    monkeypatch.setattr("textual.constants.TEXTUAL_ANIMATIONS", "none")
    monkeypatch.delenv("COLORFGBG", raising=False)


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime(STARTER)


@pytest.fixture
def make_app(places: Places, runtime: FakeRuntime) -> Callable[..., LlmchatApp]:
    def make(**kwargs) -> LlmchatApp:
        app = LlmchatApp(lambda: runtime, places, clock=lambda: NOW, **kwargs)  # type: ignore[arg-type, return-value]
        app.animation_level = "none"
        return app

    return make


async def ready(pilot: Pilot[None]) -> None:
    """Until the Runtime is open and what it holds is shown."""
    app = pilot.app
    assert isinstance(app, LlmchatApp)
    await until(pilot, lambda: app.chat and app.chat.is_mounted, "the chat screen")
    chat = app.chat
    assert chat is not None
    await until(pilot, lambda: chat.status.state == "Ready", "the Runtime")
    await until(pilot, lambda: chat.welcome.model is not None, "the model's name")
    await asyncio.sleep(0)
    await pilot.pause()
