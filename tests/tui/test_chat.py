"""The chat screen over a Runtime in memory: what a person does, and what is on the screen then."""

from llmchat.tui.widgets.message import MessageView
from tests.tui.conftest import ready, until


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
        from textual.widgets import Markdown

        markdown = view(turn.reply.id).query_one(Markdown)
        await until(pilot, lambda: markdown.source == "Hi **you**.", "the streamed words")
        assert chat.composer.text == ""
        await turn.finish()
        await until(pilot, lambda: chat.status.state == "Ready", "the end of the turn")
        assert chat.status.rate is not None
        assert [v.message.role for v in chat.query(MessageView)] == ["user", "assistant"]
        assert view(turn.reply.id).has_class("-footed")
