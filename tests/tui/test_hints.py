"""The line of keys says what the keys do where the focus is."""

import pytest

from llmchat.tui.widgets.composer import Composer
from llmchat.tui.widgets.hints import Hints
from llmchat.tui.widgets.settings_panel import Line, Prompt
from tests.tui.conftest import ready, until


def hints(app) -> dict[str, str]:
    return dict(app.chat.query_one(Hints).shown())


async def open_settings(pilot) -> None:
    await pilot.press("f4")
    await until(pilot, lambda: pilot.app.chat.query("SettingsPanel #sampling-temperature"))
    await until(pilot, lambda: isinstance(pilot.app.chat.focused, Prompt), "the system prompt")


async def test_everything_that_takes_the_focus_says_what_its_keys_do(make_app, runtime):
    runtime.chats.talk("Old", ("q", "a"))
    async with make_app().run_test(size=(140, 40)) as pilot:
        await ready(pilot)
        await open_settings(pilot)
        chat = pilot.app.chat
        kinds = {type(widget).__name__ for widget in chat.focus_chain}
        assert {"Composer", "Sidebar", "MessageView", "Prompt", "Line"} <= kinds
        for widget in chat.focus_chain:
            assert widget.SCOPE, widget
            widget.focus()
            await until(pilot, lambda: chat.query_one(Hints).scope == chat.focused.SCOPE)
            assert (hints(pilot.app).get("Enter") == "send") == isinstance(chat.focused, Composer)


async def test_in_the_settings_the_keys_do_what_the_line_says(make_app, runtime):
    async with make_app().run_test(size=(140, 40)) as pilot:
        await ready(pilot)
        await pilot.press(*"a draft")
        await open_settings(pilot)
        chat = pilot.app.chat
        prompt = chat.query_one(Prompt)
        assert hints(pilot.app)["Enter"] == "new line"
        await pilot.press("a", "enter", "b")
        await until(pilot, lambda: prompt.text == "a\nb")
        assert hints(pilot.app)["Tab"] == "next"
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(chat.focused, Line))
        assert hints(pilot.app)["Enter"] == "set"
        await pilot.press(*"0.5", "enter")
        await until(pilot, lambda: chat.settings.sampling.temperature == 0.5)
        assert hints(pilot.app)["Esc"] == "back to writing"
        await pilot.press("escape")
        await until(pilot, lambda: chat.composer.has_focus)
        assert hints(pilot.app)["Enter"] == "send"
        chat.query_one("#sampling-temperature").focus()
        await until(pilot, lambda: hints(pilot.app).get("F4") == "close")
        await pilot.press("f4")
        await until(pilot, lambda: not chat.query("SettingsPanel"))
        assert hints(pilot.app)["F4"] == "settings"
        assert not runtime.chats.running
        assert chat.composer.text == "a draft"


async def test_what_would_be_refused_for_a_message_is_not_offered(make_app, runtime):
    runtime.chats.talk("Old", ("q", "a"))
    async with make_app().run_test(size=(140, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        chat.transcript.focus_last()
        await until(pilot, lambda: hints(pilot.app).get("c") == "continue")
        await pilot.press("up")
        await until(pilot, lambda: "c" not in hints(pilot.app))
        assert hints(pilot.app)["r"] == "again"
        await pilot.press("r")
        await until(pilot, lambda: runtime.chats.running)
        await until(pilot, lambda: not set("ercfd") & set(hints(pilot.app)))
        assert hints(pilot.app)["y"] == "copy"
        await runtime.chats.running[0].write("done")
        await runtime.chats.running[0].finish()
        await until(pilot, lambda: set("erfyd") <= set(hints(pilot.app)))


@pytest.mark.parametrize("key", ["f1", "ctrl+k", "ctrl+o", "f6", "ctrl+p"])
async def test_under_a_dialog_the_line_is_empty(make_app, runtime, key):
    async with make_app().run_test(size=(140, 40)) as pilot:
        await ready(pilot)
        await pilot.press(key)
        await until(pilot, lambda: pilot.app.screen is not pilot.app.chat)
        await until(pilot, lambda: hints(pilot.app) == {})
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is pilot.app.chat)
        await until(pilot, lambda: hints(pilot.app).get("Enter") == "send")


async def test_remapped_keys_are_shown_as_they_are(make_app, runtime):
    runtime.models.here.clear()
    async with make_app(keymap={"chat.settings": "ctrl+full_stop"}).run_test() as pilot:
        await ready(pilot)
        assert hints(pilot.app)["Ctrl+."] == "settings"
        assert "Ctrl+." in str(pilot.app.chat.query_one(".welcome--tips").render())
        await until(pilot, lambda: pilot.app.chat.welcome.offered)
        pilot.app.chat.welcome.focus_list()
        await until(pilot, lambda: hints(pilot.app)["Enter"] == "take it")
