"""The transcript alone: long conversations, hostile words, streaming."""

from msgspec.structs import replace
from textual.widgets import Markdown, Static

from llmchat.tui.themed import ThemedApp
from llmchat.tui.widgets.message import MessageView, code_blocks
from llmchat.tui.widgets.streamed_markdown import StreamedMarkdown
from llmchat.tui.widgets.thinking import Thinking
from llmchat.tui.widgets.transcript import PAGE, Transcript
from llmchat.values import Message, Part
from tests.tui.conftest import until

HOSTILE = "a\x1b]52;c;UFdORUQ=\x07b\x9b31mc\u202ed\u2066e\U000e0041f\x1b[2Jg"


class Alone(ThemedApp):
    def compose(self):
        yield Transcript()

    @property
    def transcript(self) -> Transcript:
        return self.query_one(Transcript)


def message(number: int, text: str = "", role="user", status="complete", **more) -> Message:
    return Message(
        id=f"m{number}",
        conversation="c",
        parent=f"m{number - 1}" if number else None,
        role=role,
        parts=(Part(kind="text", text=text or f"Message number {number}"),),
        status=status,
        **more,
    )


def drawn(app) -> str:
    """Every character that is on the screen."""
    height = app.size.height
    return "\n".join(
        "".join(segment.text for segment in app.screen._compositor.render_strips()[y])
        for y in range(height)
    )


async def test_a_long_conversation_is_mounted_from_its_end_and_grows_upwards():
    messages = [message(n, "\n".join(f"line {n}.{i}" for i in range(6))) for n in range(30)]
    app = Alone()
    async with app.run_test(size=(60, 20)) as pilot:
        transcript = app.transcript
        await transcript.show(messages)
        await until(pilot, lambda: transcript.scroll_y == transcript.max_scroll_y > 0)
        assert len(transcript.query(MessageView)) == PAGE
        assert [m.id for m in transcript.messages] == [m.id for m in messages]
        transcript.scroll_home(animate=False)
        await until(pilot, lambda: len(transcript.query(MessageView)) == 2 * PAGE)
        await until(pilot, lambda: transcript.scroll_y > 20, "the reader's place")
        shown = [view.message.id for view in transcript.query(MessageView)]
        assert shown == [m.id for m in messages[-2 * PAGE :]]


async def test_no_control_character_reaches_the_screen():
    hostile = [
        message(0, HOSTILE),
        message(1, f"# {HOSTILE}\n\n`{HOSTILE}`\n\n[{HOSTILE}](http://x/{HOSTILE})", "assistant"),
        message(2, f"```\n{HOSTILE}\n```\n\n|{HOSTILE}|\n|-|\n|{HOSTILE}|", "assistant"),
        message(3, HOSTILE, "assistant", "failed", error=HOSTILE),
        replace(
            message(4, "", "assistant"),
            parts=(Part(kind="thinking", text=HOSTILE), Part(kind="text", text=HOSTILE)),
        ),
    ]
    app = Alone()
    async with app.run_test(size=(100, 60)) as pilot:
        await app.transcript.show(hostile)
        app.transcript.unfold(True)
        await until(pilot, lambda: "␛]52" in drawn(app))
        await pilot.pause()
        bad = {c for c in drawn(app) if ord(c) < 32 or 0x7F <= ord(c) < 0xA0} - {"\n"}
        assert bad == set()
        assert not set("\u202e\u2066\U000e0041") & set(drawn(app))


async def test_a_reply_streams_one_character_at_a_time_to_the_same_words():
    text = "# Title\n\nSome **bold** words.\n\n```python\nprint(1)\n```\n\n* a\n* b\n"
    text += "\n<div>tag</div>\n"
    app = Alone()
    async with app.run_test(size=(60, 30)) as pilot:
        transcript = app.transcript
        view = await transcript.add(
            replace(message(1, role="assistant", status="streaming"), parts=())
        )
        for character in text:
            view.feed(character)
        markdown = view.query_one(Markdown)
        await until(pilot, lambda: markdown.source == text)
        await until(pilot, lambda: "<div>tag</div>" in drawn(app), "a tag as words")
        streamed = drawn(app)
        await view.finish(message(1, text, "assistant"))
        await pilot.pause()
        await transcript.show([message(1, text, "assistant")])
        await until(pilot, lambda: drawn(app) == streamed)


async def test_paints_are_few_however_many_pieces_come(monkeypatch):
    paints = []
    append = StreamedMarkdown.append

    def counted(self, text):
        paints.append(text)
        return append(self, text)

    monkeypatch.setattr(StreamedMarkdown, "append", counted)
    app = Alone()
    async with app.run_test(size=(60, 30)) as pilot:
        view = await app.transcript.add(
            replace(message(1, role="assistant", status="streaming"), parts=())
        )
        for n in range(500):
            view.feed(f"word{n} ")
        await until(pilot, lambda: "word499" in view.query_one(Markdown).source)
        assert len(paints) <= 3


async def test_thinking_is_open_while_it_comes_and_folds_when_the_answer_begins():
    app = Alone()
    async with app.run_test(size=(60, 30)) as pilot:
        view = await app.transcript.add(
            replace(message(1, role="assistant", status="streaming"), parts=())
        )
        view.feed_thinking("let me see")
        await until(pilot, lambda: view.query(Thinking))
        thinking = view.query_one(Thinking)
        await until(pilot, lambda: "let me see" in drawn(app))
        view.feed("So:")
        await until(pilot, lambda: not thinking.open)
        await until(pilot, lambda: "let me see" not in drawn(app))


async def test_markup_in_the_users_words_is_words():
    app = Alone()
    async with app.run_test(size=(60, 30)) as pilot:
        await app.transcript.show([message(0, "[bold]not bold[/] [@click=app.quit]x[/]")])
        await until(pilot, lambda: "[bold]not bold[/] [@click=app.quit]x[/]" in drawn(app))


async def test_versions_are_counted_in_the_header():
    app = Alone()
    async with app.run_test():
        shown = replace(message(1, role="assistant"), siblings=("m0", "m1", "m2"))
        await app.transcript.show([shown])
        header = app.query_one(".message--header", Static)
        assert "2/3" in str(header.render())


def test_code_blocks_are_found():
    assert code_blocks("a\n```py\nx = 1\n```\nb\n~~~\ny\n~~~\n") == ["x = 1\n", "y\n"]
