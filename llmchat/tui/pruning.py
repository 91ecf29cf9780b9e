"""Widgets leave the screen whole, even when whoever waits for that is cancelled.

Textual 8.2.8 waits for their tasks with `gather`. Cancelling a worker that awaits `remove()` then
cancels the tasks of the leaving widgets, and their parents and the app, which wait for the same
tasks, end with them: a chat that stands still. Owns that one change, and knows Textual's private
names for it.
"""

import asyncio

from textual._callback import invoke
from textual.app import App
from textual.await_remove import AwaitRemove
from textual.dom import DOMNode
from textual.widget import Widget


class AwaitGone(AwaitRemove):
    """Waits for widgets to be gone, and leaves them alone when it is cancelled."""

    async def _gone(self) -> None:
        # A widget that removes itself does not wait for its own end.
        leaving = [task for task in self._tasks if task is not asyncio.current_task()]
        if leaving:
            await asyncio.wait(leaving)
        if self._post_remove is not None:
            await invoke(self._post_remove)

    def __await__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204 as AwaitRemove's
        return self._gone().__await__()


class PruningApp(App[None]):
    """An app whose widgets are not broken off on their way out."""

    def _prune(self, *nodes: Widget, parent: DOMNode | None = None) -> AwaitRemove:
        leaving = super()._prune(*nodes, parent=parent)
        return AwaitGone(leaving._tasks, leaving._post_remove)
