"""Whoever is quicker than the screen: what is being drawn when the next thing begins."""

import asyncio
import random

import pytest
from textual.worker import Worker

from llmchat.tui.app import LlmchatApp
from llmchat.tui.widgets.settings_panel import SettingsPanel
from tests.engine.conftest import nothing_left
from tests.tui.conftest import ready, until
from tests.tui.test_real_runtime import open_app, say, texts

__all__ = ["nothing_left", "open_app"]

REPLY = "It **is** so.\n\n* one\n* two"


def everything_runs(app: LlmchatApp) -> bool:
    """Whether the app and its widgets still answer messages."""
    assert app.chat is not None
    on_screen = [app, app.chat, *app.chat.query("*")]
    return all(one._task is None or not one._task.done() for one in on_screen)


def group(chat, name: str) -> list[Worker[None]]:
    """The workers of a group that are not done."""
    return [worker for worker in chat.workers if worker.group == name and not worker.is_finished]


async def some_steps(count: int) -> None:
    """Let everything else run that many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_turn_followed_again_while_it_is_being_drawn(open_app):
    async with open_app(f"rate=0;say={REPLY}").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        rt = await chat.runtime()
        await chat.open(await rt.chats.create())
        turn = await rt.chats.send(chat.conversation.id, "Is it?")
        for steps in range(120):
            chat.watch_turn(turn)
            await some_steps(steps % 60)
            assert everything_runs(pilot.app), steps
        await until(pilot, lambda: chat.turn is None)
        await until(pilot, lambda: texts(chat) == ["Is it?", REPLY])
        body = chat.transcript.view(chat.transcript.messages[-1].id).query_one("StreamedMarkdown")
        await until(pilot, lambda: len(body.query("MarkdownBlock")) > 3)


@pytest.mark.parametrize("seed", range(3))
async def test_stepping_quickly_through_conversations(open_app, seed):
    chance = random.Random(seed)
    async with open_app(f"rate=0;say={REPLY}").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        for number in range(3):
            await say(pilot, f"number {number}")
            await until(pilot, lambda: texts(chat)[1:] == [REPLY])
            await until(pilot, lambda: chat.turn is None)
            await pilot.press("ctrl+n")
            await until(pilot, lambda: chat.conversation is None)
        rt = await chat.runtime()
        known = await rt.chats.list(limit=10)
        for _ in range(60):
            wanted = chance.choice(known)
            chat._open(wanted.id)
            await some_steps(chance.randrange(60))
            assert everything_runs(pilot.app)
        await until(pilot, lambda: not group(chat, "open"))
        assert chat.conversation.id == wanted.id
        assert texts(chat) == [(await rt.chats.branch(wanted.id))[0].text, REPLY]


async def test_the_next_question_is_sent_while_the_last_answer_is_drawn(open_app):
    async with open_app(f"rate=0;say={REPLY}").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        for number in range(12):
            chat.send(f"number {number}")
            while len(texts(chat)) < 2 * number + 2 or not texts(chat)[-1]:
                await pilot.pause(0.01)
            await some_steps(number)
        await until(pilot, lambda: chat.turn is None and not group(chat, "follow"))
        assert texts(chat) == [text for n in range(12) for text in (f"number {n}", REPLY)]
        assert everything_runs(pilot.app)


@pytest.mark.parametrize("steps", [0, 3, 30])
async def test_another_conversation_is_opened_while_a_message_is_on_its_way(open_app, steps):
    async with open_app(f"rate=0;say={REPLY}").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        rt = await chat.runtime()
        one, other = [await rt.chats.create(title=title) for title in ("one", "other")]
        await chat.open(one)
        chat.send("for the first")
        await some_steps(steps)
        chat._open(other.id)
        await until(pilot, lambda: not group(chat, "open") and not group(chat, "send"))
        await until(pilot, lambda: not rt.chats.turns())
        assert chat.conversation.id == other.id
        assert texts(chat) == []
        said = [message.text for message in await rt.chats.branch(one.id)]
        assert [*said, chat.drafts.get(one.id)] in (
            ["for the first", REPLY, ""],
            ["for the first"],
        ), said


async def test_f4_pressed_again_before_the_panel_is_there_changes_nothing(open_app):
    async with open_app("rate=0;say=yes").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        await say(pilot, "Is it?")
        await until(pilot, lambda: texts(chat) == ["Is it?", "yes"])
        await until(pilot, lambda: chat.turn is None)
        rt = await chat.runtime()
        chat.conversation = await rt.chats.configure(
            chat.conversation.id, chat.settings.__class__(system="Be brief.")
        )
        for times in range(1, 8):
            for _ in range(times):
                chat.action_settings()
                await some_steps(times)
        await until(pilot, lambda: not group(chat, "settings"))
        assert len(chat.query(SettingsPanel)) <= 1
        assert everything_runs(pilot.app)
        assert (await rt.chats.get(chat.conversation.id)).settings.system == "Be brief."


@pytest.mark.parametrize(
    ("line", "typed", "read"),
    [
        ("Prompt", "Be brief.", lambda settings: settings.system),
        ("#sampling-temperature", "0.25", lambda settings: settings.sampling.temperature),
    ],
    ids=["prompt", "line"],
)
async def test_what_is_typed_into_the_panel_stays_with_its_conversation(
    open_app, line, typed, read
):
    async with open_app("rate=0").run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        rt = await chat.runtime()
        one = await rt.chats.create(title="one")
        await chat.open(one)
        await pilot.press("f4")
        await until(pilot, lambda: not group(chat, "settings") and chat.query(SettingsPanel))
        field = chat.query_one(SettingsPanel).query_one(line)
        field.focus()
        await until(pilot, lambda: field.has_focus)
        await pilot.press(*typed)
        await pilot.press("ctrl+n")
        await until(pilot, lambda: chat.conversation is None and not group(chat, "open"))
        await pilot.pause()
        await until(pilot, lambda: not group(chat, "configure"))
        assert str(read((await rt.chats.get(one.id)).settings)) == typed
        assert read(chat.fresh) is None
        assert (field.text if line == "Prompt" else field.value) == ""


@pytest.mark.parametrize("opens", ["ctrl+p", "ctrl+o", "ctrl+k"])
async def test_a_page_down_before_the_list_is_there(open_app, opens):
    async with open_app("rate=0").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        for steps in range(0, 60, 3):
            pilot.app.simulate_key(opens)
            await some_steps(steps)
            pilot.app.simulate_key("pagedown")
            await until(pilot, lambda: pilot.app.screen is not pilot.app.chat)
            await pilot.press("escape")
            await until(pilot, lambda: pilot.app.screen is pilot.app.chat)
            assert pilot.app._exception is None


async def test_a_reply_is_finished_under_a_box_that_closes(open_app):
    async with open_app("rate=0;say=Fine.").run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        chat = pilot.app.chat
        for steps in range(0, 40, 2):
            await chat.open(None)
            await pilot.press("f1")
            chat.send("Again.")
            while not chat.transcript.messages:  # noqa: ASYNC110 every step counts
                await asyncio.sleep(0)
            await some_steps(steps)
            pilot.app.pop_screen()
            await until(pilot, lambda: texts(chat) == ["Again.", "Fine."])
            await until(pilot, lambda: chat.turn is None)
