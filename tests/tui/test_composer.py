"""The composer alone, in an app of ten lines."""

from textual import events
from textual._xterm_parser import XTermParser

from llmchat.tui.keys import teach_alt_enter
from llmchat.tui.themed import ThemedApp
from llmchat.tui.widgets.chips import CHANGED, Chips
from llmchat.tui.widgets.composer import Composer
from llmchat.values import Part
from tests.tui.conftest import ready, until


class Alone(ThemedApp):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def compose(self):
        yield Composer()

    def on_composer_sent(self, event: Composer.Sent) -> None:
        self.sent.append(event.text)

    @property
    def composer(self) -> Composer:
        return self.query_one(Composer)


async def test_enter_sends_and_empties():
    app = Alone()
    async with app.run_test() as pilot:
        await pilot.press(*"Hello", "enter")
        await until(pilot, lambda: app.sent == ["Hello"])
        assert app.composer.text == ""


async def test_white_space_is_not_sent():
    app = Alone()
    async with app.run_test() as pilot:
        await pilot.press("space", "ctrl+j", "enter")
        assert app.sent == []
        assert app.composer.text == " \n"


async def test_three_keys_break_the_line():
    app = Alone()
    async with app.run_test() as pilot:
        await pilot.press("a", "ctrl+j", "b", "alt+enter", "c", "shift+enter", "d")
        assert app.composer.text == "a\nb\nc\nd"
        assert app.sent == []


def test_alt_enter_of_an_old_terminal_is_no_plain_enter():
    teach_alt_enter()
    parser = XTermParser()
    keys = [event.key for event in parser.feed("\x1b\r") if isinstance(event, events.Key)]
    assert keys == ["ctrl+j"]


async def test_a_paste_never_sends_and_is_cleaned():
    app = Alone()
    async with app.run_test() as pilot:
        app.composer.post_message(events.Paste("one\r\ntwo\rthree\n\x1b]52;c;eA==\x07"))
        await until(pilot, lambda: "three" in app.composer.text)
        assert app.composer.text == "one\ntwo\nthree\n␛]52;c;eA==␇"
        assert app.sent == []


async def test_a_large_paste_is_taken_whole():
    text = "line of words\n" * 20_000
    app = Alone()
    async with app.run_test() as pilot:
        app.composer.post_message(events.Paste(text))
        await until(pilot, lambda: app.composer.text == text)


async def test_the_arrows_walk_the_history_and_come_back_to_the_draft():
    app = Alone()
    async with app.run_test() as pilot:
        composer = app.composer
        await pilot.press(*"one", "enter", *"two", "enter", *"draft")
        await pilot.press("up")
        assert composer.text == "two"
        await pilot.press("up", "up", "up")
        assert composer.text == "one"
        await pilot.press("down")
        assert composer.text == "two"
        await pilot.press("down")
        assert composer.text == "draft"


async def test_arrows_move_within_a_text_of_many_lines():
    app = Alone()
    async with app.run_test() as pilot:
        composer = app.composer
        await pilot.press(*"old", "enter", *"a", "ctrl+j", *"b", "up")
        assert composer.text == "a\nb"
        assert composer.cursor_location[0] == 0
        await pilot.press("up")
        assert composer.text == "old"


async def test_a_long_line_is_walked_before_the_history():
    app = Alone()
    async with app.run_test(size=(30, 20)) as pilot:
        composer = app.composer
        await pilot.press(*"old", "enter")
        composer.replace_text("word " * 20)
        await pilot.pause()
        await pilot.press("up")
        assert composer.text == "word " * 20


async def test_it_grows_to_a_limit():
    app = Alone()
    async with app.run_test(size=(60, 30)) as pilot:
        composer = app.composer
        assert composer.size.height == 1
        composer.replace_text("\n" * 4)
        await until(pilot, lambda: composer.size.height == 5)
        composer.replace_text("\n" * 40)
        await until(pilot, lambda: composer.size.height == 10)


async def test_a_file_takes_one_line_so_that_a_click_means_it(make_app):
    long = Part(kind="file", meta={"name": "a/long/path/" * 5, "size": "9", CHANGED: "yes"})
    async with make_app().run_test(size=(60, 20)) as pilot:
        await ready(pilot)
        chips = pilot.app.chat.query_one(Chips)
        chips.show([long, long], ["a/long/path/" * 5], weight="12 tokens")
        await until(pilot, lambda: chips.size.height == 4, "two, one that is read, what they weigh")
