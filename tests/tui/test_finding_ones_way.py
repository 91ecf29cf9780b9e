"""Where the cursor is, what an empty chat says, and that another conversation leaves an edit."""

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, Static

from llmchat.text import say
from llmchat.tui.screens.model_switcher import ModelSwitcher
from llmchat.tui.screens.typed_ahead import SearchLineScreen
from llmchat.tui.widgets.model_list import ModelEntry
from llmchat.tui.widgets.plain_list import PlainList
from llmchat.values import ModelFile
from tests.tui.conftest import ready, until
from tests.tui.fake import NOW


def is_bold(sidebar, conversation_id: str) -> bool:
    spans = sidebar.get_option(conversation_id).prompt.spans
    return any("bold" in str(span.style) for span in spans)


def words(app) -> str:
    return str(app.chat.query_one(".welcome--words", Static).render())


async def test_the_list_marks_the_open_conversation_and_the_cursor_goes_there(make_app, runtime):
    old = runtime.chats.talk("Old", ("a", "b"), updated=NOW - 9)
    new = runtime.chats.talk("New", ("a", "b"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await until(pilot, lambda: chat.sidebar.highlighted_id == new.id)
        await chat.open(old)
        assert chat.sidebar.highlighted_id == old.id
        assert is_bold(chat.sidebar, old.id)
        assert not is_bold(chat.sidebar, new.id)
        chat.sidebar.highlight(new.id)
        await chat.refresh_sidebar()
        assert chat.sidebar.highlighted_id == new.id, "a mere look moves no cursor"


async def test_after_a_deletion_the_cursor_is_on_what_took_its_place(make_app, runtime):
    talks = [runtime.chats.talk(name, ("a", "b"), updated=NOW - n) for n, name in enumerate("ABC")]
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        sidebar = pilot.app.chat.sidebar
        await until(pilot, lambda: sidebar.highlighted_id == talks[0].id)
        sidebar.focus()
        await pilot.press("d")
        await until(pilot, lambda: sidebar.highlighted_id == talks[1].id)
        await pilot.press("d")
        await until(pilot, lambda: sidebar.highlighted_id == talks[2].id)
        assert list(runtime.chats.conversations) == [talks[2].id]


async def test_another_conversation_leaves_the_edit_and_the_draft_stays(make_app, runtime):
    talk = runtime.chats.talk("Talk", ("question", "answer"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        chat.composer.replace_text("a draft")
        chat.begin_edit(chat.transcript.messages[0])
        assert chat.composer.text == "question"
        await chat.open(None)
        assert chat.editing is None
        assert not chat.composer.has_class("-editing")
        assert chat.composer.border_title is None
        assert chat.composer.text == ""
        await chat.open(talk)
        assert chat.composer.text == "a draft"


async def test_changes_of_an_edit_that_was_left_are_there_the_next_time(make_app, runtime):
    runtime.chats.talk("Talk", ("question", "answer"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        message = chat.transcript.messages[0]
        chat.composer.replace_text("a draft")
        chat.begin_edit(message)
        chat.composer.replace_text("a much better question")
        await pilot.press("escape")
        assert chat.composer.text == "a draft"
        assert [note.message for note in pilot.app._notifications] == [say("tui.edit_kept")]
        await pilot.press("ctrl+q")
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        assert chat.composer.text == "a draft"
        chat.begin_edit(chat.transcript.messages[0])
        assert chat.composer.text == "a much better question"
        await pilot.press("enter")
        await until(pilot, lambda: chat.turn is not None)
        assert chat.drafts.get(message.id) == ""
        assert chat.composer.text == "a draft"


async def test_an_edit_that_is_sent_while_a_reply_runs_stays(make_app, runtime):
    runtime.chats.talk("Talk", ("question", "answer"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await pilot.press(*"more", "enter")
        await until(pilot, lambda: runtime.chats.running)
        chat.begin_edit(chat.transcript.messages[0])
        chat.composer.replace_text("changed")
        await pilot.press("enter")
        await until(pilot, lambda: chat.composer.text == "changed")
        assert chat.editing is not None


async def test_with_models_here_but_none_chosen_the_welcome_asks_which(make_app, runtime):
    runtime.models.here.append(ModelFile(name="other:1b", path="/x", identity="1", size=1))
    runtime.models.default = lambda: None
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await until(pilot, lambda: words(pilot.app) == say("tui.welcome_choose"))
        await pilot.press("enter")
        await until(pilot, lambda: "is ready" in words(pilot.app))


async def test_tab_takes_the_words_whose_keys_are_still_on_their_way(make_app, runtime):
    taken: list[ModelEntry | None] = []
    async with make_app().run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        screen = ModelSwitcher(pilot.app.chat.entries)
        pilot.app.push_screen(screen, taken.append)
        await until(pilot, lambda: screen.query(Input) and screen.query_one(Input).has_focus)
        for letter in "tiny":
            screen.query_one(Input).post_message(events.Key(letter, letter))
        screen.action_search_hub()
        await until(pilot, lambda: taken)
        assert taken == [ModelEntry(name="tiny", search=True)]


class Rows(SearchLineScreen[None]):
    """More rows than any screen has, each with its place."""

    ROWS = 100

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Input(compact=True)
            yield PlainList()
            yield Static("note", classes="-note")
            yield Static("keys", classes="-keys")

    def on_mount(self) -> None:
        self.query_one(PlainList).add_options([f"row {number}" for number in range(100)])


async def test_however_long_the_list_its_cursor_and_the_keys_stay_in_the_box(make_app):
    screen = Rows()
    async with make_app().run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.app.push_screen(screen)
        rows = screen.query_one(PlainList)
        for size, most in (((80, 24), 10), ((120, 40), 25)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert rows.size.height == most
            box = screen.query_one(Vertical).content_region
            assert rows.region.bottom <= screen.query_one(".-note").region.y
            assert screen.query_one(".-keys").region.bottom == box.bottom
