"""The conversation as it reads: one widget per message, following the end while it grows.

A long conversation is mounted from its end; earlier messages come when the reader scrolls to the
top, a page at a time, and the words being read stay where they are.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual import work
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from llmchat.text import say
from llmchat.tui.changes import Changes
from llmchat.values import Message

if TYPE_CHECKING:
    from llmchat.tui.widgets.message import MessageView

PAGE = 12
"""Messages mounted at once."""


class Transcript(VerticalScroll, can_focus=False):
    """The messages of one branch."""

    DEFAULT_CSS = """
    Transcript {
        background: $background;
        padding: 1 1 0 1;
        scrollbar-size-vertical: 1;
        & > .transcript--earlier { color: $quiet; padding: 0 2; margin: 0 0 1 0; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._earlier: list[Message] = []
        self._views: dict[str, MessageView] = {}
        self._loading = False
        self.changes = Changes()
        """Whoever adds, removes or finishes messages makes it one of these."""
        self.model = ""
        """Who answers: named over a reply that does not yet know."""

    def on_mount(self) -> None:
        """Follow the end until the reader scrolls away; a scroll to the end follows again."""
        self.anchor()

    async def show(
        self, messages: Sequence[Message], when: Callable[[], bool] | None = None
    ) -> None:
        """Replace everything by these messages and go to the end.

        Args:
            messages: those of a branch, in order.
            when: asked when nothing else is being changed; if it says no, nothing is replaced.
        """
        await self.changes.whole(partial(self._show, messages, when))

    async def _show(self, messages: Sequence[Message], when: Callable[[], bool] | None) -> None:
        if when is not None and not when():
            return
        with self.app.batch_update():
            await self.remove_children()
            self._views.clear()
            self._earlier = list(messages[:-PAGE])
            await self._mount_views(list(messages[-PAGE:]))
            if self._earlier:
                await self.mount(self._mark(), before=0)
        self.anchor()

    def _mark(self) -> Static:
        words = say("tui.earlier", count=len(self._earlier))
        return Static(Content(words), classes="transcript--earlier")

    async def _mount_views(self, messages: Sequence[Message], before: int | None = None) -> None:
        if not messages:
            return
        from llmchat.tui.widgets.message import MessageView  # markdown-it waits for a message

        views = [MessageView(message, model=self.model) for message in messages]
        self._views.update({view.message.id: view for view in views})
        await self.mount_all(views, before=before)

    async def add(self, message: Message) -> "MessageView":
        """A message at the end; the one that is there if it is. Part of a change."""
        if message.id not in self._views:
            await self._mount_views([message])
        return self._views[message.id]

    def view(self, message_id: str) -> "MessageView | None":
        """The widget of a message, if it is mounted."""
        return self._views.get(message_id)

    @property
    def streaming(self) -> "list[MessageView]":
        """The replies that are being written."""
        return [view for view in self._views.values() if view.streaming]

    @property
    def messages(self) -> list[Message]:
        """What is shown or waits above, in order."""
        return [*self._earlier, *(view.message for view in self._views.values())]

    async def keep_up_to(self, message_id: str | None) -> None:
        """Take all after a message off the screen; None = everything. Part of a change."""
        ids = list(self._views)
        if message_id in ids:
            following = ids[ids.index(message_id) + 1 :]
            if following:
                await self.discard_from(following[0])
        elif message_id is None and ids:
            self._earlier.clear()
            await self.discard_from(ids[0])

    async def discard_from(self, message_id: str) -> None:
        """Take a message and all that follow it off the screen. Part of a change."""
        ids = list(self._views)
        if message_id in ids:
            leaving = [self._views.pop(gone) for gone in ids[ids.index(message_id) :]]
            with self.app.batch_update():
                for view in leaving:
                    await view.remove()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """At the top, bring what came before."""
        super().watch_scroll_y(old_value, new_value)
        if new_value <= 1 and new_value < old_value and self._earlier and not self._loading:
            self._loading = True
            self._bring_earlier()

    @work
    async def _bring_earlier(self) -> None:
        try:
            await self.show_earlier()
        finally:
            self._loading = False

    async def show_earlier(self) -> None:
        """Mount one more page above, and keep the reader's place."""
        await self.changes.whole(self._show_earlier)

    async def _show_earlier(self) -> None:
        page, self._earlier = self._earlier[-PAGE:], self._earlier[:-PAGE]
        height, place = self.virtual_size.height, self.scroll_y
        known, self._views = self._views, {}
        with self.app.batch_update():
            await self.query(".transcript--earlier").remove()
            await self._mount_views(page, before=0)
            if self._earlier:
                await self.mount(self._mark(), before=0)
        self._views.update(known)

        def keep_place() -> None:
            grown = self.virtual_size.height - height
            self.scroll_to(y=place + grown, animate=False, force=True)

        self.call_after_refresh(keep_place)

    def unfold(self, open_: bool) -> None:
        """Show or fold every reply's thinking."""
        for view in self._views.values():
            view.unfold(open_)

    def step(self, view: "MessageView", by: int) -> bool:
        """Focus a neighbour; False at either end."""
        views = list(self._views.values())
        place = views.index(view) + by if view in views else len(views)
        if 0 <= place < len(views):
            views[place].focus()
            return True
        return False

    async def focus_on(self, message_id: str) -> bool:
        """Focus a message, brought from above if it waits there; False when it is not here."""
        while message_id in {message.id for message in self._earlier}:
            await self.show_earlier()
        view = self._views.get(message_id)
        if view is not None:
            view.focus()
        return view is not None

    def focus_last(self) -> bool:
        """Focus the last message; False when there is none."""
        if not self._views:
            return False
        next(reversed(self._views.values())).focus()
        return True
