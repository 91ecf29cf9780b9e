"""One message of a conversation: its header, thinking, words, numbers, and what went wrong.

Owns drawing and the keys of a focused message; posts `Asked` for everything that changes the
conversation. Model text is Markdown; the user's words stay exactly as typed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalGroup
from textual.content import Content
from textual.message import Message as TextualMessage
from textual.widget import Widget
from textual.widgets import Static

from llmchat.text import say
from llmchat.text.cleaning import clean
from llmchat.tui.actions import bindings
from llmchat.tui.names import short_model
from llmchat.tui.widgets.chips import chip
from llmchat.tui.widgets.footnote import dropped, footnote
from llmchat.tui.widgets.streamed_markdown import StreamedMarkdown
from llmchat.tui.widgets.thinking import Thinking
from llmchat.values import Message


def code_blocks(text: str) -> list[str]:
    """The contents of the fenced and indented code blocks of a Markdown text."""
    tokens = MarkdownIt().parse(text)
    return [token.content for token in tokens if token.type in {"fence", "code_block"}]


class MessageView(VerticalGroup, can_focus=True):
    """A message in the transcript."""

    SCOPE = "message"
    BINDINGS = bindings("message")

    DEFAULT_CSS = """
    MessageView {
        height: auto;
        max-width: 104;
        padding: 0 2 0 1;
        margin: 0 0 1 0;
        border-left: outer $background;
        &:focus { border-left: outer $primary; }
        & > .message--header { color: $turn-assistant; text-style: bold; }
        & > .message--words { margin: 0; }
        & > .message--foot { color: $quiet; display: none; }
        & > .message--notice { color: $text-warning; display: none; }
        &.-user { background: $surface; border-left: outer $surface; padding: 0 2 0 1; }
        &.-user:focus { border-left: outer $primary; }
        &.-user > .message--header { color: $turn-user; }
        &.-user > .message--words { margin: 0; }
        &.-footed > .message--foot { display: block; }
        &.-noticed > .message--notice { display: block; }
        &.-failed > .message--notice { color: $text-error; }
    }
    """

    @dataclass
    class Asked(TextualMessage):
        """The user wants `what` done to this message: `edit`, `copy`, `before`, ..."""

        view: "MessageView"
        what: str

        @property
        def control(self) -> "MessageView":
            """The message's view."""
            return self.view

    @dataclass
    class Stepped(TextualMessage):
        """The focus should go to the message `by` further on."""

        view: "MessageView"
        by: int

    def __init__(self, message: Message, *, model: str = "", notice: str = "") -> None:
        super().__init__()
        self.message = message
        self._model = model
        self._notice = notice
        self.set_class(message.role == "user", "-user")

    @property
    def streaming(self) -> bool:
        """Whether more may come."""
        return self.message.status == "streaming"

    def compose(self) -> ComposeResult:
        """Header, thinking, words, footnote and notice; the last two show when there is cause."""
        yield Static(self._header(), classes="message--header")
        if self.message.thinking:
            yield Thinking(self.message.thinking, running=self.streaming)
        yield self._words()
        yield Static("", classes="message--foot", markup=False)
        yield Static("", classes="message--notice", markup=False)

    def _words(self) -> Widget:
        if self.message.role == "user":
            files = [chip(part) for part in self.message.files]
            words = Content.assemble(
                *((f"{line}\n", "$text-accent") for line in files), clean(self.message.text)
            )
            return Static(words, classes="message--words", markup=False)
        if self.streaming:
            body = StreamedMarkdown(classes="message--words")
            body.feed(self.message.text) if self.message.text else None
            return body
        return StreamedMarkdown(self.message.text, classes="message--words")

    def on_mount(self) -> None:
        """Fill in what is known already."""
        if self.children:  # none, when the app ended while this was being made
            self._settle()

    def _header(self) -> Content:
        message = self.message
        if message.role == "user":
            name = say("tui.you")
        elif message.role == "system":
            stands_for = "".join(part.meta.get("summary_of", "") for part in message.parts)
            name = say("tui.summary_of", count=len(stands_for.split()))
        else:
            model = message.generation.model if message.generation else self._model
            name = short_model(model, 60) or say("tui.assistant")
        parts: list[tuple[str, str]] = [(name, "")]
        if len(message.siblings) > 1 and message.id in message.siblings:
            place = message.siblings.index(message.id) + 1
            parts.append((f"  {place}/{len(message.siblings)}", "$quiet not bold"))
        return Content.assemble(*parts)

    def _settle(self) -> None:
        message = self.message
        self.query_one(".message--header", Static).update(self._header())
        foot = footnote(message.generation) if message.generation and not self.streaming else ""
        self.query_one(".message--foot", Static).update(Content(foot))
        self.set_class(bool(foot), "-footed")
        self.set_class(message.status == "failed", "-failed")
        notice = self._notice or self._own_notice()
        self.query_one(".message--notice", Static).update(Content(clean(notice)))
        self.set_class(bool(notice), "-noticed")

    def _own_notice(self) -> str:
        message = self.message
        if message.status == "interrupted":
            return f"{message.error or say('tui.interrupted')} {say('tui.interrupted_hint')}"
        if message.status == "failed":
            return f"{message.error or say('tui.failed')} {say('tui.failed_hint')}"
        if message.generation is not None and (left_out := message.generation.left_out):
            return dropped(len(left_out.messages), left_out.tokens)
        return ""

    def feed(self, text: str) -> None:
        """More of the reply, raw."""
        for thinking in self._thinking():
            thinking.settle()
        self.query_one(StreamedMarkdown).feed(text)

    def feed_thinking(self, text: str) -> None:
        """More of what the model thinks, raw."""
        found = False
        for thinking in self._thinking():
            thinking.feed(text)
            found = True
        if not found:
            self.mount(Thinking(text, running=True), after=self.query_one(".message--header"))

    async def finish(self, message: Message, notice: str = "") -> None:
        """The message as it was saved; `notice` says what went wrong and what to do."""
        self.message, self._notice = message, notice
        for thinking in self._thinking():
            thinking.settle()
        if message.role != "user":
            await self.query_one(StreamedMarkdown).finish(message.text)
        self._settle()

    def say_notice(self, notice: str) -> None:
        """Something to know about this message, under it."""
        self._notice = notice
        self._settle()

    def unfold(self, open_: bool) -> None:
        """Show or fold the thinking."""
        for thinking in self._thinking():
            thinking.open = open_

    def _thinking(self) -> Iterator[Thinking]:
        return iter(self.query(Thinking))

    def on_focus(self, event: events.Focus) -> None:
        """A focused message is seen."""
        self.scroll_visible(animate=False)

    def action_ask(self, what: str) -> None:
        """Pass a wish on to the screen."""
        self.post_message(self.Asked(self, what))

    def action_step(self, by: int) -> None:
        """Go to a neighbour."""
        self.post_message(self.Stepped(self, by))

    def action_fold(self) -> None:
        """Open or fold the thinking."""
        for thinking in self._thinking():
            thinking.open = not thinking.open
