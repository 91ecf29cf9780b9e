"""Attachments, the question what to leave out, summing up, personas: over the real Runtime."""

import json
from pathlib import Path

import pytest
from textual.widgets import OptionList

from llmchat.tui.screens.dialogs import ChoiceScreen
from llmchat.tui.screens.file_picker import FilePicker
from llmchat.tui.widgets.chips import Chips, chip
from llmchat.tui.widgets.composer import pasted_path
from tests.engine.conftest import nothing_left
from tests.tui.conftest import ready, until
from tests.tui.test_real_runtime import open_app, say, texts

__all__ = ["nothing_left", "open_app"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "notes.txt").write_text("remember the milk")
    (folder / "code.py").write_text("x = 1")
    (folder / "i.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    monkeypatch.chdir(folder)
    return folder


def shown(chat) -> list[str]:
    return [part.meta["name"] for part in chat.attached]


async def answered(pilot, words: str) -> None:
    """Say something, and wait for the end of the reply."""
    chat = pilot.app.chat
    count = len(texts(chat))
    await say(pilot, words)
    await until(pilot, lambda: len(texts(chat)) == count + 2 and texts(chat)[-1])
    await until(pilot, lambda: not chat.answering)


async def test_a_file_is_chosen_shown_sent_and_kept_by_an_edit(open_app, files):
    async with open_app("rate=0;say=Milk.").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await pilot.press("@")
        await until(pilot, lambda: isinstance(pilot.app.screen, FilePicker), "the picker")
        found = pilot.app.screen.query_one(OptionList)
        await until(pilot, lambda: found.option_count == 3, "the files")
        await pilot.press(*"notes")
        await until(pilot, lambda: found.option_count == 1)
        await pilot.press("enter")
        await until(pilot, lambda: shown(chat) == ["notes.txt"])
        assert chat.composer.text == ""
        assert chat.query_one(Chips).has_class("-shown")
        await say(pilot, "what?")
        await until(pilot, lambda: texts(chat) == ["what?", "Milk."])
        assert shown(chat) == []
        question = chat.transcript.messages[0]
        assert [part.kind for part in question.parts] == ["file", "text"]
        chat.transcript.view(question.id).focus()
        await pilot.press("e")
        await until(pilot, lambda: shown(chat) == ["notes.txt"])
        await say(pilot, "what then?")
        await until(pilot, lambda: texts(chat) == ["what then?", "Milk."])
        assert [part.kind for part in chat.transcript.messages[0].parts] == ["file", "text"]
        assert shown(chat) == []


async def test_paths_by_command_and_by_paste_and_taking_them_off(open_app, files):
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await say(pilot, "/attach *.py")
        await until(pilot, lambda: shown(chat) == ["code.py"])
        await say(pilot, "/attach i.png")
        await until(pilot, lambda: shown(chat) == ["code.py", "i.png"])
        await say(pilot, "look")  # refused: the words and the files are back
        await until(pilot, lambda: chat.composer.text == "look")
        assert shown(chat) == ["code.py", "i.png"]
        chat.composer.replace_text("")
        await pilot.press("backspace")
        await until(pilot, lambda: shown(chat) == ["code.py"])
        await say(pilot, "/nothing of ours")
        await until(pilot, lambda: len(texts(chat)) == 2)
        assert texts(chat)[0] == "/nothing of ours"


async def test_files_stay_with_the_draft_and_are_read_again(open_app, files, places):
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await say(pilot, "first")
        await until(pilot, lambda: len(texts(chat)) == 2 and not chat.answering)
        await say(pilot, "/attach code.py")
        await until(pilot, lambda: shown(chat) == ["code.py"])
        await say(pilot, "/attach notes.txt")
        await until(pilot, lambda: shown(chat) == ["code.py", "notes.txt"])
        await say(pilot, "/attach i.png")
        await until(pilot, lambda: shown(chat) == ["code.py", "notes.txt", "i.png"])
        chat.composer.replace_text("what is this?")
        pilot.app.exit()
    assert "milk" not in places.drafts.read_text()  # where it is, not what it says
    (files / "notes.txt").unlink()
    (files / "code.py").write_text("x = 2")
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await until(pilot, lambda: shown(chat) == ["code.py", "i.png"])
        assert chat.composer.text == "what is this?"
        assert chat.query_one(Chips).has_class("-shown")
        (told,) = [one.message for one in pilot.app._notifications]
        assert "notes.txt" in told
        await pilot.press("end", "ctrl+n")  # and they wait while another one is open
        await until(pilot, lambda: chat.conversation is None and shown(chat) == [])
        await pilot.app.chat.open((await (await chat.runtime()).chats.list())[0])
        await until(pilot, lambda: shown(chat) == ["code.py", "i.png"])
        chat.put_attached(chat.attached[:1])
        chat.composer.replace_text("")
        await say(pilot, "and this?")
        await until(pilot, lambda: len(texts(chat)) == 4 and not chat.answering)
        (file, _) = chat.transcript.messages[2].parts
        assert (file.text, set(file.meta)) == ("x = 2", {"name", "size", "media"})
        pilot.app.exit()
    assert json.loads(places.drafts.read_text()) == {}


async def test_a_file_that_changed_since_it_was_attached_says_so_until_it_is_sent(open_app, files):
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        await say(pilot, "/attach code.py")
        await until(pilot, lambda: shown(pilot.app.chat) == ["code.py"])
        await say(pilot, "/attach notes.txt")
        await until(pilot, lambda: shown(pilot.app.chat) == ["code.py", "notes.txt"])
        pilot.app.exit()
    (files / "code.py").write_text("x = 2")
    (files / "notes.txt").touch()
    for _ in range(2):  # quitting again changes nothing
        async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
            await ready(pilot)
            await until(pilot, lambda: shown(pilot.app.chat) == ["code.py", "notes.txt"])
            chat = pilot.app.chat
            assert ["changed" in chip(part) for part in chat.attached] == [True, False]
            assert str(chat.query_one(Chips).render()).count("changed since") == 1
            pilot.app.exit()
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await until(pilot, lambda: len(shown(chat)) == 2)
        await say(pilot, "look")
        await until(pilot, lambda: len(texts(chat)) == 2 and not chat.answering)
        (file, _, _) = chat.transcript.messages[0].parts
        assert (file.text, "changed" in chip(file)) == ("x = 2", False)


async def test_files_of_a_chat_that_is_not_begun_stay_too(open_app, files):
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        await say(pilot, "/attach code.py")
        await until(pilot, lambda: shown(pilot.app.chat) == ["code.py"])
        pilot.app.exit()
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await until(pilot, lambda: shown(chat) == ["code.py"])
        await say(pilot, "look")
        await until(pilot, lambda: len(texts(chat)) == 2 and not chat.answering)
        assert shown(chat) == []
        await pilot.press("ctrl+n")
        await until(pilot, lambda: chat.conversation is None)
        await say(pilot, "/attach notes.txt")
        await until(pilot, lambda: shown(chat) == ["notes.txt"])
        pilot.app.exit()
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:  # the chat with words opens
        await ready(pilot)
        chat = pilot.app.chat
        await until(pilot, lambda: len(texts(chat)) == 2)
        assert shown(chat) == []
        await pilot.press("ctrl+n")
        await until(pilot, lambda: shown(chat) == ["notes.txt"])


def test_a_pasted_path(files, monkeypatch):
    path = files / "with space.txt"
    path.write_text("x")
    for text in (str(path), f"'{path}'", f"file://{files}/with%20space.txt\n"):
        assert pasted_path(text) == str(path)
    assert pasted_path(str(path).replace(" ", "\\ ")) == str(path)
    for text in ("notes.txt", "words", "", str(files), f"{path}\nmore", "/no/such/file"):
        assert pasted_path(text) is None


async def test_what_to_leave_out_is_asked_and_the_answer_stays_visible(open_app, places):
    places.config.mkdir(parents=True, exist_ok=True)
    places.config_file.write_text('[chat]\ncontext_policy = "ask"\n')
    async with open_app("rate=0;n_ctx=100;say=ok").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        for number in range(4):
            await answered(pilot, f"{number} " + "word " * 12)
        await say(pilot, "the last " + "word " * 20)
        await until(pilot, lambda: isinstance(pilot.app.screen, ChoiceScreen), "the question")
        await pilot.press("enter")
        await until(pilot, lambda: texts(chat)[-1] == "ok" and len(texts(chat)) == 10)
        last = chat.transcript.messages[-1]
        await until(pilot, lambda: chat.transcript.view(last.id).has_class("-noticed"))


async def test_summing_up_and_back(open_app):
    async with open_app("rate=0;say=In short.").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        for number in range(3):
            await answered(pilot, f"question {number}")
        before = texts(chat)
        await say(pilot, "/compact")
        await until(pilot, lambda: texts(chat)[:1] == ["In short."])
        await until(pilot, lambda: not chat.answering)
        await until(pilot, lambda: texts(chat) == ["In short.", *before[2:]])
        summary = chat.transcript.messages[0]
        chat.transcript.view(summary.id).focus()
        await pilot.press("r")  # nothing is answered again
        assert not chat.answering
        await pilot.press("e")
        await until(pilot, lambda: chat.editing == summary.id)
        chat.composer.replace_text("In my words.")
        await pilot.press("enter")
        await until(pilot, lambda: texts(chat) == ["In my words.", *before[2:]])
        chat.transcript.view(chat.transcript.messages[0].id).focus()
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: texts(chat) == ["In short.", *before[2:]])
        chat.transcript.view(summary.id).focus()
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: texts(chat) == before)


async def test_a_persona_is_chosen(open_app, places):
    places.personas.mkdir(parents=True)
    (places.personas / "pirate.toml").write_text('about = "Arr"\nsystem = "Be a pirate."\n')
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await pilot.press("f7")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChoiceScreen), "the choice")
        await pilot.press("down", "enter")
        await until(pilot, lambda: chat.settings.persona == "pirate")
        await say(pilot, "hello")
        await until(pilot, lambda: len(texts(chat)) == 2 and chat.turn is None)
        made = chat.transcript.messages[-1].generation
        assert made.settings["system"].source == "persona"
