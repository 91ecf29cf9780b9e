"""Several versions written together: drawn one at a time, stepped through, kept."""

from tests.engine.conftest import nothing_left
from tests.tui.conftest import ready, until
from tests.tui.test_real_runtime import open_app, say, texts

__all__ = ["nothing_left", "open_app"]


async def several(pilot):
    """A stopped reply, and four versions beside it that are being written; their ids."""
    await ready(pilot)
    chat = pilot.app.chat
    await say(pilot, "hi")
    await until(pilot, lambda: "Writing" in chat.status.state)
    await pilot.press("escape")
    await until(pilot, lambda: not chat.answering)
    chat.transcript.view(chat.transcript.messages[-1].id).focus()
    await pilot.press("R")
    await until(pilot, lambda: "Writing 4 versions" in chat.status.state)
    return [reply.id for reply in chat.turn.replies]


def drawn(chat) -> str | None:
    """The id of the reply on the screen."""
    return chat.transcript.messages[-1].id if chat.transcript.messages else None


async def test_the_one_that_was_stepped_to_is_drawn_and_stays(open_app):
    async with open_app("rate=40;words=100000").run_test(size=(100, 30)) as pilot:
        ids = await several(pilot)
        chat = pilot.app.chat
        assert len(ids) == 4
        await until(pilot, lambda: drawn(chat) == ids[0])
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: drawn(chat) == ids[1])
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: drawn(chat) == ids[2])
        assert chat.answering
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: drawn(chat) == ids[1])
        await until(pilot, lambda: chat.transcript.view(ids[1]).streaming)
        await pilot.press("escape")
        await until(pilot, lambda: not chat.answering, "the end")
        rt = await chat.runtime()
        kept = await rt.chats.message(ids[1])
        assert kept.text.startswith("(2) ")
        await until(pilot, lambda: texts(chat) == ["hi", kept.text])
        assert [m.id for m in await rt.chats.branch(chat.conversation.id)][-1] == ids[1]
        await pilot.press("right_square_bracket")  # and now among all five
        await until(pilot, lambda: drawn(chat) == ids[2])


async def test_no_step_leads_away_from_those_that_are_written(open_app):
    async with open_app("rate=40;words=100000").run_test(size=(100, 30)) as pilot:
        ids = await several(pilot)
        chat = pilot.app.chat
        await until(pilot, lambda: drawn(chat) == ids[0])
        await pilot.press("left_square_bracket")  # the finished one that was there before
        await pilot.pause(0.2)
        assert (drawn(chat), chat.answering) == (ids[0], True)
        await pilot.press("escape")
        await until(pilot, lambda: not chat.answering)
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: drawn(chat) not in ids)


async def test_another_conversation_and_back_shows_the_same_version(open_app):
    async with open_app("rate=40;words=100000").run_test(size=(100, 30)) as pilot:
        ids = await several(pilot)
        chat = pilot.app.chat
        first = chat.conversation
        await until(pilot, lambda: drawn(chat) == ids[0])
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: drawn(chat) == ids[1])
        await pilot.press("ctrl+n")
        await until(pilot, lambda: chat.conversation is None)
        chat.run_worker(chat.open(first))  # whose gauge waits for the scripted worker
        await until(pilot, lambda: drawn(chat) == ids[1])
        assert chat.answering
        await pilot.press("escape")
        await until(pilot, lambda: not chat.answering)
