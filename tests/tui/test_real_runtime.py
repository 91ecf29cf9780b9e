"""The chat over the real Runtime: real store, sockets and processes, scripted models."""

import os
import signal
from pathlib import Path

import pytest

from llmchat.core.runtime import Runtime
from llmchat.core.turn import Turn
from llmchat.paths import Places
from llmchat.tui.app import LlmchatApp
from llmchat.tui.screens.search import SearchScreen
from llmchat.values import ChatSettings
from tests.engine.conftest import nothing_left
from tests.tui.conftest import ready, until

__all__ = ["nothing_left"]


@pytest.fixture
def open_app(places: Places, tmp_path: Path):
    """An app on this test's home, whose model is a script."""
    path = tmp_path / "some-model.gguf"
    path.write_bytes(b"GGUF" + bytes(60))

    def make(script: str) -> LlmchatApp:
        def runtime() -> Runtime:
            return Runtime(
                places=places,
                face="tui",
                environ={**os.environ, "LLMCHAT_ENGINE": f"scripted:{script}"},
                flags=ChatSettings(keep_alive=0, model=str(path)),
            )

        return LlmchatApp(runtime, places)

    return make


def texts(chat) -> list[str]:
    return [message.text for message in chat.transcript.messages]


def newest(chat) -> str | None:
    """The last message's id; nothing while the transcript is built anew."""
    return chat.transcript.messages[-1].id if chat.transcript.messages else None


async def say(pilot, words: str) -> None:
    pilot.app.chat.composer.replace_text(words)
    pilot.app.chat.composer.focus()
    await pilot.press("enter")


async def test_type_read_quit_and_find_it_again(open_app):
    async with open_app("rate=0;say=Paris **is** it.").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await say(pilot, "Capital of France?")
        await until(pilot, lambda: texts(chat) == ["Capital of France?", "Paris **is** it."])
        await until(pilot, lambda: chat.status.context is not None, "the context gauge")
        assert chat.status.context[1] > chat.status.context[0] > 0
        assert chat.status.processor
        await pilot.press(*"draft", "ctrl+q")
    async with open_app("rate=0").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        assert texts(pilot.app.chat) == ["Capital of France?", "Paris **is** it."]
        assert pilot.app.chat.composer.text == "draft"


async def test_esc_stops_midway_and_the_words_stay(open_app):
    async with open_app("rate=50;words=5000").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await say(pilot, "Go on for ever.")
        await until(pilot, lambda: chat.status.state.startswith("Writing"))
        await pilot.press("escape")
        await until(pilot, lambda: chat.turn is None)
        reply = chat.transcript.messages[-1]
        assert reply.text
        assert reply.generation.finish == "cancelled"


async def test_a_version_stopped_while_the_model_loads_gives_its_place_back(open_app):
    async with open_app("rate=0;say=One.").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await say(pilot, "Hi")
        await until(pilot, lambda: texts(chat) == ["Hi", "One."] and chat.turn is None)
        first = newest(chat)
    async with open_app("load=300").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await until(pilot, lambda: newest(chat) == first)
        chat.transcript.focus_last()
        await pilot.press("r")
        await until(pilot, lambda: chat.status.state.startswith("Loading"))
        await pilot.press("escape")
        await until(pilot, lambda: chat.turn is None and texts(chat) == ["Hi", "One."])
        await until(pilot, lambda: chat.transcript.view(first).has_focus)
        assert chat.transcript.view(first).message.siblings == (first,)
        await say(pilot, "precious")
        await until(pilot, lambda: chat.status.state.startswith("Loading"))
        await pilot.press("ctrl+q")
    async with open_app("rate=0").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        assert texts(pilot.app.chat) == ["Hi", "One.", "precious"]


async def test_a_killed_worker_leaves_the_chat_alive_and_sending_again_works(open_app):
    async with open_app("rate=50;words=5000").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await say(pilot, "Go on for ever.")
        await until(pilot, lambda: chat.status.state.startswith("Writing"))
        rt = await chat.runtime()
        [worker] = await rt.models.live()
        os.kill(worker.pid, signal.SIGKILL)
        await until(pilot, lambda: chat.turn is None)
        view = chat.transcript.view(chat.transcript.messages[-1].id)
        assert "SIGKILL" in str(view.query_one(".message--notice").render())
        assert view.message.text, "what was written is kept"
        await say(pilot, "Again.\n#! words=0;rate=0;say=Fine.")
        await until(pilot, lambda: texts(chat)[-1] == "Fine.")


async def test_an_error_of_ours_in_a_turn_is_told_and_the_chat_goes_on(open_app, monkeypatch):
    def broken(self, reply, kind, text):
        raise ZeroDivisionError("nobody thought of that")

    async with open_app("rate=0;say=One.").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        with monkeypatch.context() as patch:
            patch.setattr(Turn, "_add", broken)
            await say(pilot, "Hi")
            told = pilot.app._notifications
            await until(
                pilot, lambda: ["nobody thought" in note.message for note in told] == [True]
            )
        await until(pilot, lambda: chat.turn is None)
        await say(pilot, "And now?")
        await until(pilot, lambda: texts(chat)[-2:] == ["And now?", "One."])


async def test_regenerating_and_stepping_through_versions(open_app):
    async with open_app("rate=0;say=One.").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await say(pilot, "Hi")
        await until(pilot, lambda: texts(chat) == ["Hi", "One."] and chat.turn is None)
        first = chat.transcript.messages[-1].id
        chat.transcript.focus_last()
        await pilot.press("r")
        await until(pilot, lambda: newest(chat) not in (None, first) and chat.turn is None)
        await until(pilot, lambda: texts(chat) == ["Hi", "One."])
        chat.transcript.focus_last()
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: newest(chat) == first and chat.transcript.view(first).has_focus)
        await pilot.press("d")
        await until(pilot, lambda: newest(chat) not in (None, first))


async def test_f4_is_saved_and_shown_with_its_source(open_app):
    async with open_app("rate=0;say=One.").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await say(pilot, "Hi")
        await until(pilot, lambda: texts(chat) == ["Hi", "One."] and chat.turn is None)
        await pilot.press("f4")
        await until(pilot, lambda: chat.query("#sampling-temperature"))
        chat.query_one("#sampling-temperature").focus()
        await pilot.press(*"0.2", "tab")
        rt = await chat.runtime()
        await until(pilot, lambda: chat.conversation.settings.sampling.temperature == 0.2)
        resolved = await rt.chats.resolved(chat.conversation.id)
        assert resolved.sources["sampling.temperature"] == "conversation"


async def test_ctrl_k_opens_an_older_version_of_what_was_asked_on_the_command_line(open_app):
    async with open_app("rate=0;say=One.").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        rt = await chat.runtime()
        talk = await rt.chats.create(source="cli")
        turn = await rt.chats.send(talk.id, "Name a tangerine.")
        await turn.wait()
        old = turn.question
        await (await rt.chats.edit(old.id, "Name a lemon.")).wait()
        await pilot.press("ctrl+k", *"tangerine")
        await until(pilot, lambda: isinstance(pilot.app.screen, SearchScreen))
        await until(pilot, lambda: pilot.app.screen.query("OptionList"))
        hits = pilot.app.screen.query_one("OptionList")
        await until(pilot, lambda: pilot.app.screen._looked == "tangerine", "the whole word")
        assert hits.option_count == 2, "the title and the question"
        await pilot.press("down", "enter")
        await until(pilot, lambda: texts(chat) == ["Name a tangerine.", "One."])
        await until(pilot, lambda: chat.transcript.view(old.id).has_focus)
