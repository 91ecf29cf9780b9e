"""The chat screen over a Runtime in memory: what a person does, and what is on the screen then."""

from textual.command import CommandList
from textual.containers import VerticalScroll
from textual.widgets import Input, Markdown, TextArea

from llmchat.core.events import ModelLoading, PromptRead
from llmchat.errors import ConfigError, WorkerDied
from llmchat.tui.app import LlmchatApp
from llmchat.tui.screens.dialogs import ConfirmScreen, LineScreen
from llmchat.tui.screens.help import HelpScreen
from llmchat.tui.screens.model_switcher import ModelSwitcher
from llmchat.tui.screens.pull import PullScreen
from llmchat.tui.widgets.activity import Activity
from llmchat.tui.widgets.message import MessageView
from llmchat.tui.widgets.model_list import ModelList
from llmchat.tui.widgets.settings_panel import SettingsPanel
from llmchat.values import ModelFile
from tests.tui.conftest import ready, until
from tests.tui.fake import NOW, FakeDownloads


def words(chat) -> str:
    """What the transcript holds."""
    return "\n".join(m.text for m in chat.transcript.messages)


async def test_a_message_goes_out_and_the_reply_streams_in(make_app, runtime):
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await pilot.press(*"Hello", "enter")
        await until(pilot, lambda: runtime.chats.running, "the turn")
        turn = runtime.chats.running[0]
        await turn.write("Hi ")
        await turn.write("**you**.")
        view = chat.transcript.view
        await until(pilot, lambda: view(turn.reply.id), "the reply's widget")
        markdown = view(turn.reply.id).query_one(Markdown)
        await until(pilot, lambda: markdown.source == "Hi **you**.", "the streamed words")
        assert chat.composer.text == ""
        await turn.finish()
        await until(pilot, lambda: chat.status.state == "Ready", "the end of the turn")
        assert chat.status.rate is not None
        assert [v.message.role for v in chat.query(MessageView)] == ["user", "assistant"]
        assert view(turn.reply.id).has_class("-footed")


def last_view(chat) -> MessageView:
    """The newest message's widget."""
    view: MessageView = chat.transcript.view(chat.transcript.messages[-1].id)
    return view


def has_keys(chat) -> bool:
    """The last message is there (none is while the transcript is built anew) and has the keys."""
    return bool(chat.transcript.messages) and last_view(chat).has_focus


async def focused(pilot, place: int) -> None:
    """Give a message the keys, and wait until it has them."""
    chat = pilot.app.chat
    view = chat.transcript.view(chat.transcript.messages[place].id)
    view.focus()
    await until(pilot, lambda: view.has_focus, "the message to have the keys")


async def send(pilot, runtime, text: str):
    """Send `text` and give back the turn that it started."""
    count = len(runtime.chats.running)
    pilot.app.chat.composer.replace_text(text)
    pilot.app.chat.composer.focus()
    await pilot.press("enter")
    await until(pilot, lambda: len(runtime.chats.running) > count, "the turn")
    turn = runtime.chats.running[-1]
    await until(pilot, lambda: pilot.app.chat.transcript.view(turn.reply.id), "the reply")
    return turn


async def test_the_last_conversation_is_open_and_another_opens_from_the_list(make_app, runtime):
    runtime.chats.talk("Old", ("old question", "old answer"), updated=NOW - 100)
    runtime.chats.talk("New", ("new question", "new answer"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        assert words(chat) == "new question\nnew answer"
        chat.sidebar.focus()
        await pilot.press("down", "enter")
        await until(pilot, lambda: words(chat) == "old question\nold answer")
        await until(pilot, lambda: chat.composer.has_focus)


async def test_what_is_sent_before_the_runtime_is_open_waits_and_goes_out(make_app, runtime):
    async with make_app().run_test() as pilot:
        await until(pilot, lambda: pilot.app.chat and pilot.app.chat.is_mounted)
        await pilot.press(*"early", "enter")
        await until(pilot, lambda: runtime.chats.running)
        assert runtime.chats.running[0].question.text == "early"
        await until(pilot, lambda: pilot.app.chat.transcript.messages)
        assert pilot.app.chat.composer.text == ""
        pilot.app.chat.save_drafts()
        assert pilot.app.chat.drafts.get(None) == ""
        assert pilot.app.chat.drafts.get(runtime.chats.running[0].conversation) == ""


async def test_typing_goes_on_while_a_model_loads_and_what_is_sent_waits_its_turn(
    make_app, runtime
):
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        turn = await send(pilot, runtime, "first")
        await turn.publish(ModelLoading(**turn.tag, model="m", fraction=0.5, stage="weights"))
        await until(pilot, lambda: chat.activity.fraction == 0.5)
        await pilot.press(*"second", "enter")
        await until(pilot, lambda: [going.text for going in chat.waiting] == ["second"])
        await turn.publish(
            PromptRead(**turn.tag, done=10, total=40, from_memory=0, from_disk=0, seconds_left=12.0)
        )
        await until(pilot, lambda: "12 s left" in chat.activity.tail)
        await turn.write("done")
        await until(pilot, lambda: not chat.activity.words)
        await turn.finish()
        await until(pilot, lambda: len(runtime.chats.running) == 2, "the second turn")
        assert runtime.chats.running[1].question.text == "second"


async def test_esc_stops_and_what_was_written_stays(make_app, runtime):
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        turn = await send(pilot, runtime, "go")
        await turn.write("half of it")
        await pilot.press("escape")
        await until(pilot, lambda: chat.status.state == "Ready" and chat.turn is None)
        assert chat.transcript.view(turn.reply.id).message.text == "half of it"
        assert chat.transcript.view(turn.reply.id).message.generation.finish == "cancelled"


async def test_esc_while_the_model_loads_leaves_the_question_which_can_be_asked_again(
    make_app, runtime
):
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        turn = await send(pilot, runtime, "go")
        await turn.publish(ModelLoading(**turn.tag, model="m", fraction=0.5, stage="weights"))
        await until(pilot, lambda: chat.activity.words)
        await pilot.press("escape")
        await until(pilot, lambda: chat.status.state == "Ready" and chat.turn is None)
        assert [message.text for message in chat.transcript.messages] == ["go"]
        view = chat.transcript.view(turn.question.id)
        assert "before the first word" in str(view.query_one(".message--notice").render())
        view.focus()
        await pilot.press("r")
        await until(pilot, lambda: len(runtime.chats.running) == 2)
        again = runtime.chats.running[1]
        await again.write("fine")
        await again.finish()
        await until(pilot, lambda: chat.turn is None)
        assert [message.text for message in chat.transcript.messages] == ["go", "fine"]
        await until(pilot, lambda: not view.has_class("-noticed"), "the notice to be out of date")


async def test_a_dead_worker_is_a_sentence_and_sending_again_works(make_app, runtime):
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        turn = await send(pilot, runtime, "go")
        await turn.write("half")
        await turn.fail(WorkerDied(signal="SIGKILL"))
        await until(pilot, lambda: chat.turn is None)
        view = chat.transcript.view(turn.reply.id)
        notice = str(view.query_one(".message--notice").render())
        assert "SIGKILL" in notice
        assert "again" in notice
        assert view.has_class("-failed")
        again = await send(pilot, runtime, "again")
        await again.write("fine")
        await again.finish()
        await until(pilot, lambda: chat.turn is None)
        assert not chat.transcript.view(again.reply.id).has_class("-failed")


async def test_leaving_a_running_turn_stops_nothing_and_coming_back_shows_it_all(make_app, runtime):
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        turn = await send(pilot, runtime, "go")
        await turn.write("one ")
        await pilot.press("ctrl+n")
        await until(pilot, lambda: chat.conversation is None and chat.has_class("-empty"))
        await turn.write("two ")
        assert not turn.done
        chat.sidebar.focus()
        await pilot.press("enter")
        await until(pilot, lambda: chat.turn is turn)
        await turn.write("three")
        view = chat.transcript.view
        await until(pilot, lambda: view(turn.reply.id))
        markdown = view(turn.reply.id).query_one(Markdown)
        await until(pilot, lambda: markdown.source == "one two three")


async def test_drafts_survive_switching_and_quitting(make_app, runtime):
    runtime.chats.talk("Old", ("q", "a"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await pilot.press(*"draft")
        await pilot.press("ctrl+n")
        await until(pilot, lambda: chat.conversation is None)
        assert chat.composer.text == ""
        await pilot.press(*"other")
        chat.sidebar.focus()
        await pilot.press("enter")
        await until(pilot, lambda: chat.composer.text == "draft")
        await pilot.press("ctrl+q")
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        assert pilot.app.chat.composer.text == "draft"
        await pilot.press("ctrl+n")
        await until(pilot, lambda: pilot.app.chat.composer.text == "other")


async def test_the_keys_of_a_message(make_app, runtime):
    talk = runtime.chats.talk("Talk", ("question", "answer with\n```\ncode\n```"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await pilot.press("shift+tab")
        reply = chat.transcript.messages[-1]
        await until(pilot, lambda: chat.transcript.view(reply.id).has_focus)
        await pilot.press("y")
        await until(pilot, lambda: pilot.app.clipboard == reply.text)
        await pilot.press("Y")
        await until(pilot, lambda: pilot.app.clipboard == "code\n")
        await pilot.press("r")
        await until(pilot, lambda: runtime.chats.running)
        turn = runtime.chats.running[0]
        await turn.write("another")
        await turn.finish()
        await until(pilot, lambda: chat.turn is None)
        await until(pilot, lambda: words(chat) == "question\nanother")
        await focused(pilot, -1)
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: "answer with" in words(chat) and has_keys(chat))
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: words(chat) == "question\nanother" and has_keys(chat))
        await pilot.press("d")
        await until(pilot, lambda: words(chat) == "question" and has_keys(chat))
        await pilot.press("u")
        await until(pilot, lambda: words(chat) == "question\nanother" and has_keys(chat))
        await pilot.press("f")
        await until(pilot, lambda: chat.conversation.id != talk.id)
        await until(pilot, lambda: words(chat) == "question\nanother")


async def test_an_edit_is_a_version_and_esc_leaves_it(make_app, runtime):
    runtime.chats.talk("Talk", ("question", "answer"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await pilot.press(*"draft")
        await pilot.press("shift+tab")
        await until(pilot, lambda: last_view(chat).has_focus)
        await pilot.press("up")
        first = chat.transcript.view(chat.transcript.messages[0].id)
        await until(pilot, lambda: first.has_focus)
        await pilot.press("e")
        await until(pilot, lambda: chat.composer.text == "question")
        await until(pilot, lambda: chat.composer.has_focus)
        await pilot.press("escape")
        await until(pilot, lambda: chat.composer.text == "draft")
        await focused(pilot, 0)
        await pilot.press("e")
        await until(pilot, lambda: chat.composer.text == "question")
        await until(pilot, lambda: chat.composer.has_focus)
        await pilot.press(*" two", "enter")
        await until(pilot, lambda: runtime.chats.running)
        turn = runtime.chats.running[0]
        assert turn.question.text == "question two"
        await turn.write("reply two")
        await turn.finish()
        await until(pilot, lambda: words(chat) == "question two\nreply two")
        await until(pilot, lambda: chat.composer.text == "draft")


async def test_renaming_pinning_deleting_and_undoing_a_conversation(make_app, runtime):
    talk = runtime.chats.talk("Talk", ("q", "a"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        chat.sidebar.focus()
        await pilot.press("r")
        await until(pilot, lambda: isinstance(pilot.app.screen, LineScreen))
        await until(pilot, lambda: pilot.app.screen.query_one(Input).has_focus)
        await pilot.press("end")
        await until(pilot, lambda: pilot.app.screen.query_one(Input).selection.is_empty)
        await pilot.press(*" two", "enter")
        await until(pilot, lambda: runtime.chats.conversations[talk.id].title == "Talk two")
        await until(pilot, lambda: pilot.app.screen is chat)
        await pilot.press("p")
        await until(pilot, lambda: runtime.chats.conversations[talk.id].pinned)
        await pilot.press("d")
        await until(pilot, lambda: not runtime.chats.conversations)
        await until(pilot, lambda: chat.has_class("-empty"))
        chat.sidebar.focus()
        await pilot.press("u")
        await until(pilot, lambda: runtime.chats.conversations)


async def test_ctrl_o_finds_by_a_few_letters_and_switches_this_conversation(make_app, runtime):
    other = ModelFile(name="owner/Big-Model-GGUF:Q4_K_M", path="/x", identity="1", size=2)
    runtime.models.here.append(other)
    talk = runtime.chats.talk("Talk", ("q", "a"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(pilot.app.screen, ModelSwitcher))
        switcher = pilot.app.screen
        await until(pilot, lambda: switcher.query_one(ModelList).option_count == 2)
        await pilot.press(*"bigm")
        await until(pilot, lambda: switcher.query_one(ModelList).option_count == 1)
        await pilot.press("enter")
        await until(pilot, lambda: runtime.chats.conversations[talk.id].settings.model)
        assert runtime.chats.conversations[talk.id].settings.model == other.name
        await until(pilot, lambda: pilot.app.chat.status.model == "Big-Model-GGUF:Q4_K_M")


async def pulling(pilot) -> PullScreen:
    """The box of the starter's pull, which Enter opens where no model is."""
    await ready(pilot)
    await until(pilot, lambda: pilot.app.chat.welcome.offered)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, PullScreen))
    box: PullScreen = pilot.app.screen
    return box


async def test_with_no_model_enter_pulls_the_starter_and_the_chat_is_ready(make_app, runtime):
    runtime.models.here.clear()
    runtime.downloads = FakeDownloads(runtime.models)
    async with make_app().run_test(size=(80, 24)) as pilot:
        pull = await pulling(pilot)
        chat = pilot.app.chat
        await until(pilot, lambda: pull.query_one(Activity).fraction == 0.5)
        runtime.downloads.go_on.set()
        await until(pilot, lambda: chat.status.model == "smollm2:135m")
        await until(pilot, lambda: chat.composer.has_focus)


async def test_esc_stops_a_pull(make_app, runtime):
    runtime.models.here.clear()
    runtime.downloads = FakeDownloads(runtime.models)
    async with make_app().run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await until(pilot, lambda: pilot.app.chat.welcome.offered)
        await pilot.press("up")
        await until(pilot, lambda: pilot.app.chat.welcome.query_one(ModelList).has_focus)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, PullScreen))
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is pilot.app.chat)
        assert runtime.downloads.stopped


async def test_a_pull_that_ends_under_another_screen_closes_when_that_is_gone(make_app, runtime):
    runtime.models.here.clear()
    runtime.downloads = FakeDownloads(runtime.models)
    async with make_app().run_test(size=(80, 24)) as pilot:
        pull = await pulling(pilot)
        chat = pilot.app.chat
        await pilot.app.push_screen(HelpScreen())
        runtime.downloads.go_on.set()
        await until(pilot, lambda: pull not in [worker.node for worker in pilot.app.workers])
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is chat)
        await until(pilot, lambda: chat.status.model == "smollm2:135m")


async def test_a_link_opens_after_a_yes_and_only_on_the_web(make_app, runtime, monkeypatch):
    opened = []
    monkeypatch.setattr(LlmchatApp, "open_url", lambda self, url, **_: opened.append(url))
    runtime.chats.talk("Talk", ("q", "[x](https://example.org/page) [y](file:///etc/passwd)"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        markdown = chat.query_one(Markdown)
        for href in ("https://example.org/page", "file:///etc/passwd"):
            markdown.post_message(Markdown.LinkClicked(markdown, href))
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("n")
        await until(pilot, lambda: pilot.app.screen is chat)
        assert opened == []
        markdown.post_message(Markdown.LinkClicked(markdown, "https://example.org/page"))
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: opened == ["https://example.org/page"])


async def test_a_long_link_on_a_small_screen_leaves_its_keys_in_sight(make_app, runtime):
    runtime.chats.talk("Talk", ("q", "words"))
    async with make_app().run_test(size=(60, 15)) as pilot:
        await ready(pilot)
        markdown = pilot.app.chat.query_one(Markdown)
        url = "https://example.org/" + "x" * 2028
        markdown.post_message(Markdown.LinkClicked(markdown, url))
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.pause()
        keys = pilot.app.screen.query_one(".dialog--keys")
        assert pilot.app.screen.find_widget(keys).visible_region == keys.region
        subject = pilot.app.screen.query_one(VerticalScroll)
        assert subject.region.height >= 2
        assert subject.region.bottom <= keys.region.y
        await pilot.press("end")
        await until(pilot, lambda: subject.scroll_y == subject.max_scroll_y > 0)
        await pilot.press("n")
        await until(pilot, lambda: pilot.app.screen is pilot.app.chat)
        markdown.post_message(Markdown.LinkClicked(markdown, "https://example.org/"))
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.pause()
        [subject] = pilot.app.screen.query(VerticalScroll)
        keys = pilot.app.screen.query_one(".dialog--keys")
        assert subject.region.height == 1
        assert subject.region.bottom <= keys.region.y
        await pilot.press("n")


async def test_page_keys_in_the_composer_turn_the_conversation(make_app, runtime):
    runtime.chats.talk("Talk", ("q", "A line.\n\n" * 80))
    async with make_app().run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        words = pilot.app.chat.transcript
        await until(pilot, lambda: words.scroll_y == words.max_scroll_y > 0)
        await pilot.press("pageup")
        await until(pilot, lambda: words.scroll_y < words.max_scroll_y)
        await pilot.press("pagedown")
        await until(pilot, lambda: words.scroll_y == words.max_scroll_y)


async def test_answered_again_the_new_version_has_the_keys(make_app, runtime):
    runtime.chats.talk("Talk", ("q", "words"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await focused(pilot, -1)
        await pilot.press("r")
        await until(pilot, lambda: runtime.chats.running)
        new = runtime.chats.running[0].reply.id
        await until(pilot, lambda: (view := pilot.app.chat.transcript.view(new)) and view.has_focus)


async def test_f4_shows_what_is_set_and_by_whom_and_saves_a_change(make_app, runtime):
    talk = runtime.chats.talk("Talk", ("q", "a"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await pilot.press("f4")
        await until(pilot, lambda: pilot.app.chat.query(SettingsPanel))
        panel = pilot.app.chat.query_one(SettingsPanel)
        await until(pilot, lambda: panel.query("#sampling-temperature"))
        await until(pilot, lambda: panel.query_one("#sampling-temperature").placeholder)
        await until(pilot, lambda: panel.query_one(TextArea).has_focus)
        await pilot.press(*"Be brief.", "tab")
        await until(pilot, lambda: panel.query_one("#sampling-temperature").has_focus)
        await pilot.press(*"0.3", "tab")
        saved = runtime.chats.conversations
        await until(pilot, lambda: saved[talk.id].settings.sampling.temperature == 0.3)
        await until(pilot, lambda: saved[talk.id].settings.system == "Be brief.")
        await until(pilot, lambda: panel.query_one("#sampling-top_k").has_focus)
        await pilot.press(*"many", "tab")
        await until(pilot, lambda: panel.has_class("-wrong"))
        assert saved[talk.id].settings.sampling.top_k is None
        panel.query_one("#max_tokens").focus()
        await pilot.press(*"64", "f4")
        await until(pilot, lambda: not pilot.app.chat.query(SettingsPanel))
        await until(pilot, lambda: saved[talk.id].settings.max_tokens == 64)


async def test_too_small_says_so_and_20_by_6_is_usable(make_app, runtime):
    runtime.chats.talk("Talk", ("q", "a"))
    async with make_app().run_test(size=(20, 6)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        assert chat.composer.size.height >= 1
        assert chat.transcript.size.height >= 2
        turn = await send(pilot, runtime, "hi")
        await turn.write("hello")
        await turn.finish()
        await until(pilot, lambda: chat.turn is None)
        await pilot.resize_terminal(19, 5)
        await until(pilot, lambda: chat.has_class("-tiny"))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: not chat.has_class("-tiny"))


async def test_the_sidebar_hides_where_it_is_narrow_and_ctrl_b_brings_it(make_app, runtime):
    async with make_app().run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        assert not chat.sidebar.display or not chat.sidebar.size
        width = chat.transcript.size.width
        await pilot.press("ctrl+b")
        await until(pilot, lambda: chat.sidebar.size.width > 0 and chat.sidebar.has_focus)
        assert chat.query_one("#main").size.width == chat.app.size.width
        await pilot.press("f5")
        await until(pilot, lambda: chat.composer.has_focus)
        assert chat.transcript.size.width in {0, width}


def offered(palette) -> list[str]:
    """The commands that the palette lists."""
    return [option.hit.text for lines in palette.query(CommandList) for option in lines.options]


async def test_the_palette_runs_an_action(make_app, runtime):
    runtime.chats.talk("Talk", ("q", "a"))
    async with make_app().run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await pilot.press("ctrl+p")
        await pilot.press(*"New chat")
        await until(pilot, lambda: offered(pilot.app.screen)[:1] == ["New chat"], "the action")
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.chat.conversation is None, "the new chat")


async def test_the_runtime_is_closed_at_the_end(make_app, runtime):
    async with make_app().run_test() as pilot:
        await ready(pilot)
    assert runtime.closed


async def test_a_runtime_that_cannot_be_opened_ends_the_app_with_its_code(make_app, monkeypatch):
    app = make_app()

    def broken():
        raise ConfigError("paths.not_ours", path="/x")

    app._make_runtime = broken
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.failure is not None)
    assert app.return_code == 1
