"""Markdown that grows looks like Markdown given whole, and only its end is drawn anew."""

import pytest
from textual.containers import Horizontal
from textual.widgets._markdown import MarkdownBullet

from llmchat.tui.themed import ThemedApp
from llmchat.tui.widgets.streamed_markdown import StreamedMarkdown
from tests.tui.conftest import until


class Alone(ThemedApp):
    def compose(self):
        yield StreamedMarkdown()

    @property
    def words(self) -> StreamedMarkdown:
        return self.query_one(StreamedMarkdown)


def shown(app: Alone) -> list[str]:
    """The text of the screen, line by line."""
    width, height = app.size
    strips = app.screen._compositor.render_strips()
    return [strip.text.rstrip()[:width] for strip in strips[:height]]


LISTS = {
    "bullets": "\n".join(f"- line {n}" for n in range(1, 14)),
    "numbers": "\n".join(f"{n}. line {n}" for n in range(1, 14)),
    "nested": "- one\n  - inner\n  - inner two\n- two\n\nAfter.\n\n1. x\n2. y",
    "then-other": "- one\n- two\n1. other\n2. list\n\n> quote",
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
async def test_a_list_in_pieces_is_the_list_given_whole(text: str):
    screens = []
    for pieces in ([text], [text[i : i + 7] for i in range(0, len(text), 7)]):
        app = Alone()
        async with app.run_test(size=(60, 30)) as pilot:
            for piece in pieces:
                await app.words.append(piece)
            await pilot.pause()
            screens.append(shown(app))
    assert screens[0] == screens[1]


async def test_the_lines_before_the_last_stay_the_same_widgets():
    app = Alone()
    async with app.run_test(size=(60, 30)) as pilot:
        await app.words.append("".join(f"{n}. line\n" for n in range(1, 6)))
        rows = list(app.query(Horizontal))
        await app.words.append("".join(f"{n}. line\n" for n in range(6, 12)))
        await pilot.pause()
        assert list(app.query(Horizontal))[:4] == rows[:4]
        assert [b.symbol.strip() for b in app.query(MarkdownBullet)] == [
            f"{n}." for n in range(1, 12)
        ]


async def test_what_is_fed_is_painted_soon():
    app = Alone()
    async with app.run_test(size=(60, 30)) as pilot:
        for n in range(20):
            app.words.feed(f"- piece {n}\n")
        await until(pilot, lambda: "piece 19" in "\n".join(shown(app)))
