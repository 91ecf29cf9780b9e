"""Ctrl+K: what was said is found while it is typed, and opened where it was said."""

import time

import pytest
from textual.widgets import OptionList

from llmchat.tui.screens.search import SearchScreen, snippet_line, when
from tests.tui.conftest import ready, until


def rows(pilot) -> list[str]:
    options = pilot.app.screen.query_one(OptionList)
    return [str(options.get_option_at_index(n).prompt) for n in range(options.option_count)]


async def search(pilot, words: str) -> None:
    await pilot.press("ctrl+k")
    await until(pilot, lambda: isinstance(pilot.app.screen, SearchScreen))
    await pilot.press(*words)


def test_matches_are_marked_and_all_else_is_cleaned():
    line = snippet_line("a \x01tan\x1bgerine\x02 is\nred\x01dish\x02.")
    assert str(line) == "a tan␛gerine is reddish."
    bold = [str(line)[span.start : span.end] for span in line.spans if "bold" in str(span.style)]
    assert bold == ["tan␛gerine", "dish"]
    assert "\x01" not in str(snippet_line("\x01open"))
    assert "\x02" not in str(snippet_line("shut\x02"))


@pytest.mark.parametrize(("days", "length"), [(0, 5), (400, 10)])
def test_dates(days: int, length: int):
    now = time.time()
    assert len(when(now - days * 86_400, now)) == length


async def test_typing_finds_and_enter_opens_at_the_message(make_app, runtime):
    talk = runtime.chats.talk(
        "Fruit", ("Which fruit?", "A tangerine."), *[("More?", "No.\n" * 20)] * 10
    )
    runtime.chats.talk("Other", ("a", "b"), updated=talk.updated + 10)
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await search(pilot, "tangerin")
        await until(pilot, lambda: len(rows(pilot)) == 1)
        assert "Fruit" in rows(pilot)[0]
        assert "reply" in rows(pilot)[0]
        await pilot.press("enter")
        chat = pilot.app.chat
        await until(pilot, lambda: chat.conversation and chat.conversation.id == talk.id)
        hit = next(m.id for m in runtime.chats.messages.values() if "tangerine" in m.text)
        await until(pilot, lambda: (view := chat.transcript.view(hit)) and view.has_focus)
        await until(
            pilot, lambda: chat.transcript.view(hit).region.overlaps(chat.transcript.region)
        )


async def test_esc_changes_nothing_and_nothing_found_says_so(make_app, runtime):
    runtime.chats.talk("Fruit", ("Which fruit?", "A tangerine."))
    async with make_app().run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        before = pilot.app.chat.conversation
        await search(pilot, "xyzzy")
        keys = pilot.app.screen.query_one(".-keys")
        await until(pilot, lambda: "Nothing" in str(keys.render()))
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, SearchScreen)
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is pilot.app.chat)
        assert pilot.app.chat.conversation == before


async def test_enter_typed_fast_takes_what_the_whole_words_find(make_app, runtime):
    runtime.chats.talk("One", ("apple", "x"))
    wanted = runtime.chats.talk("Two", ("apricot", "y"), updated=1.0)
    async with make_app().run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("ctrl+k", *"apricot", "enter")
        await until(pilot, lambda: pilot.app.chat.conversation.id == wanted.id)
