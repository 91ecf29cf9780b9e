"""Widgets leave the screen whole: their workers first, and nobody breaks off those who are leaving.

Three things that Textual 8.2.8 does otherwise, each of which ends the chat. It cancels a widget's
workers only when its children are gone, so one that comes back in between finds nothing to write
to: a search that ends just after Esc. And it waits for leaving widgets with `gather`, so cancelling
a worker that awaits `remove()` cancels their tasks, and their parents and the app, which wait for
the same tasks, end with them. And it may paint what has left already. Knows Textual's private names
for all this.
"""

import asyncio
from collections.abc import Iterable

from textual._callback import invoke
from textual.app import App
from textual.await_remove import AwaitRemove
from textual.dom import DOMNode
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget
from textual.worker import NoActiveWorker, get_current_worker


class Fading:
    """Mixed into a widget that goes while the rest of its screen stays, before the kind it is of.

    A paint may come between its end and the next layout, when its styles are gone already. No
    Widget itself: of several of these Textual takes the styles of the first.
    """

    def render_lines(self, crop: Region) -> list[Strip]:
        """Nothing, once it is leaving."""
        if not self.is_running:  # type: ignore[attr-defined]
            return [Strip.blank(crop.width)] * crop.height
        lines: list[Strip] = super().render_lines(crop)  # type: ignore[misc]
        return lines


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
        self._cancel_workers_of(nodes)
        leaving = super()._prune(*nodes, parent=parent)
        return AwaitGone(leaving._tasks, leaving._post_remove)

    def _cancel_workers_of(self, nodes: Iterable[Widget]) -> None:
        leaving = {below for node in nodes for below in node.walk_children(with_self=True)}
        try:
            own = get_current_worker()
        except NoActiveWorker:
            own = None
        for worker in list(self.workers):
            if worker is not own and worker.node in leaving:
                worker.cancel()
