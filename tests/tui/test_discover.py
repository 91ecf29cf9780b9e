"""Discover over a hub of the tests, in the real Runtime: words, a repository, a variant, a pull."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, Static

from llmchat.core.runtime import Runtime
from llmchat.paths import Places
from llmchat.tui.app import LlmchatApp
from llmchat.tui.screens.discover import DiscoverScreen
from llmchat.tui.screens.model_switcher import ModelSwitcher
from llmchat.tui.widgets.model_list import ModelList
from llmchat.values import ChatSettings
from tests.hub.server import Fault, Hub
from tests.tui.conftest import ready, until
from tests.written import Written, write

SMALL = Written("llama", 4, 256, 512, 8, 2, 32, vocab=2000)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    content = write(tmp_path, "small", SMALL).read_bytes()
    with Hub() as hub:
        for number in range(23):
            files = {"m-Q4_K_M.gguf": content, "m-Q2_K.gguf": content[:-400_000] + b"\x07" * 100}
            hub.put(f"o/small-{number:02}-GGUF", files)
        hub.facts["o/small-00-GGUF"] = {
            "downloads": 1234,
            "tags": ["gguf", "license:mit\x1b]0;no\x07"],
        }
        yield hub


@pytest.fixture
def open_app(places: Places, tmp_path: Path, hub: Hub):
    path = tmp_path / "some-model.gguf"
    path.write_bytes(b"GGUF" + bytes(60))

    def make() -> LlmchatApp:
        def runtime() -> Runtime:
            return Runtime(
                places=places,
                face="tui",
                environ={**os.environ, "HF_ENDPOINT": hub.endpoint},
                flags=ChatSettings(keep_alive=0, model=str(path)),
            )

        return LlmchatApp(runtime, places)

    return make


def rows(screen) -> list[str]:
    options = screen.query_one(OptionList)
    return [str(options.get_option_at_index(n).prompt) for n in range(options.option_count)]


def note(screen) -> str:
    return str(screen.query_one(".-note", Static).render())


async def discover(pilot, words: str) -> DiscoverScreen:
    """Ctrl+O, words, Tab."""
    await ready(pilot)
    await pilot.press("ctrl+o")
    await until(pilot, lambda: isinstance(pilot.app.screen, ModelSwitcher))
    await pilot.press(*words, "tab")
    await until(pilot, lambda: isinstance(pilot.app.screen, DiscoverScreen))
    screen = pilot.app.screen
    assert isinstance(screen, DiscoverScreen)
    return screen


async def test_words_a_repository_a_variant_and_its_model_answers(open_app, hub: Hub):
    async with open_app().run_test(size=(120, 40)) as pilot:
        screen = await discover(pilot, "small")
        assert screen.query_one(Input).value == "small"
        await until(pilot, lambda: len(rows(screen)) == 21, "a page and more")
        assert rows(screen)[0].startswith("o/small-00-GGUF   1,234 downloads · mit")
        assert "\x1b" not in rows(screen)[0]
        await pilot.press("enter")
        await until(pilot, lambda: any("★" in row for row in rows(screen)), "the variants")
        [starred] = [row for row in rows(screen) if "★" in row]
        assert "Q4_K_M" in starred
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.chat.status.model == "small-00-GGUF:Q4_K_M")
        await until(pilot, lambda: pilot.app.chat.composer.has_focus)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(pilot.app.screen, ModelSwitcher))
        models = pilot.app.screen.query_one(ModelList)
        await until(pilot, lambda: any("fits" in row for row in rows_of(models)), "what fits")


def rows_of(models: OptionList) -> list[str]:
    return [str(models.get_option_at_index(n).prompt) for n in range(models.option_count)]


async def test_more_and_back_and_other_words(open_app, hub: Hub):
    async with open_app().run_test(size=(100, 30)) as pilot:
        screen = await discover(pilot, "small")
        await until(pilot, lambda: len(rows(screen)) == 21)
        await pilot.press("up", "enter")  # up from the first is the last: More
        await until(pilot, lambda: len(rows(screen)) == 23, "the second page")
        await pilot.press("enter")
        await until(pilot, lambda: len(rows(screen)) == 2, "the variants")
        await pilot.press("escape")
        await until(pilot, lambda: len(rows(screen)) == 23, "what was found")
        await pilot.press(*"-07", "enter")
        await until(pilot, lambda: len(rows(screen)) == 1, "the other words")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, DiscoverScreen))


async def test_a_hub_that_fails_is_a_sentence_and_the_words_stay(open_app, hub: Hub):
    hub.hub_faults.append(Fault(status=503))
    async with open_app().run_test(size=(100, 30)) as pilot:
        screen = await discover(pilot, "small")
        await until(pilot, lambda: "busy" in note(screen))
        assert rows(screen) == []
        await pilot.press("enter")
        await until(pilot, lambda: len(rows(screen)) == 21)
        assert note(screen) == ""
