"""Files that take a while to read: seen, waited for, given up, and kept for their own draft."""

import threading
from collections.abc import Callable

import pytest

from llmchat.core.attaching.attachments import Attachments
from llmchat.tui.widgets.chips import Chips
from tests.engine.conftest import nothing_left
from tests.tui.conftest import ready, until
from tests.tui.test_conversation_features import files, shown
from tests.tui.test_real_runtime import open_app, say, texts

__all__ = ["files", "nothing_left", "open_app"]


@pytest.fixture
def let_read(monkeypatch: pytest.MonkeyPatch):
    """Files are read when this is called, and not before."""
    gate = threading.Event()

    def slow(read: Callable[..., object]) -> Callable[..., object]:
        def wait(*args, **kwargs):
            assert gate.wait(60)
            return read(*args, **kwargs)

        return wait

    monkeypatch.setattr(Attachments, "read", slow(Attachments.read))
    monkeypatch.setattr(Attachments, "read_file", slow(Attachments.read_file))
    yield gate.set
    gate.set()


async def attaching(pilot, name: str):
    """The chat, in which a file is being read."""
    await ready(pilot)
    await say(pilot, f"/attach {name}")
    await until(pilot, lambda: f"reading {name} …" in line(pilot.app.chat))
    return pilot.app.chat


def line(chat) -> str:
    """What is drawn of the attachments."""
    return str(chat.query_one(Chips).render())


async def test_nothing_is_sent_before_its_file_is_there(open_app, files, let_read):
    async with open_app("rate=0;say=Milk.").run_test(size=(100, 30)) as pilot:
        chat = await attaching(pilot, "notes.txt")
        await say(pilot, "what?")
        await until(pilot, lambda: chat.composer.text == "what?" and pilot.app._notifications)
        (told,) = [one.message for one in pilot.app._notifications]
        assert "notes.txt" in told
        assert texts(chat) == []
        let_read()
        await until(pilot, lambda: shown(chat) == ["notes.txt"])
        assert "reading" not in line(chat)
        await pilot.press("enter")
        await until(pilot, lambda: texts(chat) == ["what?", "Milk."])
        assert [part.kind for part in chat.transcript.messages[0].parts] == ["file", "text"]


async def test_nor_an_edit(open_app, files, let_read):
    async with open_app("rate=0;say=Milk.").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await say(pilot, "what?")
        await until(pilot, lambda: len(texts(chat)) == 2 and not chat.answering)
        await say(pilot, "/attach code.py")  # for the next message
        await until(pilot, lambda: "reading" in line(chat))
        chat.begin_edit(chat.transcript.messages[0])
        assert "reading" not in line(chat)  # of the next message, and this is another
        chat.attach("notes.txt")
        await until(pilot, lambda: "reading notes.txt …" in line(chat))
        await say(pilot, "what then?")
        await until(pilot, lambda: chat.composer.text == "what then?" and pilot.app._notifications)
        assert chat.editing is not None
        let_read()
        await until(pilot, lambda: shown(chat) == ["notes.txt"] and not chat.reading)
        await pilot.press("enter")
        await until(pilot, lambda: texts(chat) == ["what then?", "Milk."])
        assert [part.kind for part in chat.transcript.messages[0].parts] == ["file", "text"]
        assert shown(chat) == ["code.py"]


async def test_a_file_comes_to_the_draft_it_was_meant_for(open_app, files, let_read, places):
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await say(pilot, "first")
        await until(pilot, lambda: len(texts(chat)) == 2 and not chat.answering)
        first = chat.conversation
        await say(pilot, "/attach notes.txt")
        await until(pilot, lambda: "reading" in line(chat))
        await pilot.press("ctrl+n")
        await until(pilot, lambda: chat.conversation is None)
        assert "reading" not in line(chat)
        let_read()
        await until(pilot, lambda: not chat.reading)
        assert shown(chat) == []
        assert [file.name for file in chat.drafts.files(first.id)] == ["notes.txt"]
        await chat.open(first)
        assert shown(chat) == ["notes.txt"]


async def test_backspace_gives_up_what_is_being_read(open_app, files, let_read):
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        chat = await attaching(pilot, "notes.txt")
        await pilot.press("backspace")
        await until(pilot, lambda: not chat.query_one(Chips).has_class("-shown"))
        let_read()
        await say(pilot, "what?")
        await until(pilot, lambda: len(texts(chat)) == 2 and not chat.answering)
        assert [part.kind for part in chat.transcript.messages[0].parts] == ["text"]
        assert shown(chat) == []


async def test_files_of_a_draft_are_waited_for_as_well(open_app, files, request):
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        await say(pilot, "/attach code.py")
        await until(pilot, lambda: shown(pilot.app.chat) == ["code.py"])
        pilot.app.exit()
    let_read = request.getfixturevalue("let_read")
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await until(pilot, lambda: "reading code.py …" in line(chat))
        await say(pilot, "look")
        await until(pilot, lambda: chat.composer.text == "look" and pilot.app._notifications)
        let_read()
        await until(pilot, lambda: shown(chat) == ["code.py"])
        await pilot.press("enter")
        await until(pilot, lambda: len(texts(chat)) == 2 and not chat.answering)
        assert [part.kind for part in chat.transcript.messages[0].parts] == ["file", "text"]
