"""Leaving widgets: whose workers come back late, and who is cancelled while waiting for them."""

import asyncio

import pytest
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.geometry import Region
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widgets import Input, Static, TextArea

from llmchat.tui.pruning import Fading, PruningApp
from tests.tui.conftest import until


async def steps(count: int) -> None:
    """Let everything else run that many times."""
    for _ in range(count):
        await asyncio.sleep(0)


class Looking(ModalScreen[None]):
    """A screen that writes down what it has looked up, `late` steps after it was asked."""

    def __init__(self, late: int) -> None:
        super().__init__()
        self._late = late

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static("looking", id="found")

    @work
    async def look(self) -> None:
        await steps(self._late)
        self.query_one("#found", Static).update("found")


@pytest.mark.parametrize("late", range(40))
async def test_a_worker_that_comes_back_when_its_screen_is_leaving(late):
    app = PruningApp()
    async with app.run_test() as pilot:
        screen = Looking(late)
        await app.push_screen(screen)
        screen.look()
        screen.dismiss(None)
        await steps(50)
        await pilot.pause()
        assert app._exception is None
        assert app.screen is not screen


@pytest.mark.parametrize("late", range(1, 20))
async def test_who_waits_for_a_removal_is_cancelled(late):
    app = PruningApp()
    async with app.run_test() as pilot:
        box = Vertical(*(Vertical(Static("deep")) for _ in range(3)))
        await app.screen.mount(box)

        async def clear() -> None:
            await box.remove()

        worker = app.screen.run_worker(clear())
        await steps(late)
        worker.cancel()
        await pilot.pause()
        await app.screen.mount(after := Static("after"))
        await pilot.pause()
        assert not box.is_running
        assert app.is_running
        assert after.is_running


async def test_a_worker_may_remove_its_own_widget():
    class Leaving(Static):
        @work
        async def leave(self) -> None:
            await self.remove()

    app = PruningApp()
    async with app.run_test() as pilot:
        await app.screen.mount(widget := Leaving("bye"))
        widget.leave()
        await until(pilot, lambda: not widget.is_running)
        assert app._exception is None


class FadingText(Fading, TextArea):
    pass


class FadingLine(Fading, Input):
    pass


@pytest.mark.parametrize("kind", [FadingText, FadingLine])
async def test_what_has_left_can_still_be_painted(kind):
    app = PruningApp()
    async with app.run_test() as pilot:
        await app.screen.mount(widget := kind())
        await pilot.pause()
        assert widget.render_lines(Region(0, 0, 10, 1))[0].cell_length == 10
        await widget.remove()
        assert widget.render_lines(Region(0, 0, 10, 1)) == [Strip.blank(10)]
