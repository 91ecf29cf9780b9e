"""Changes of the screen that are made of several steps, done whole and one after another.

A worker that follows a turn is cancelled when the next turn begins or another conversation is
opened, at whatever it awaits. What it has begun to draw is drawn to its end; what comes next waits
for that.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Changes:
    """A line in which changes wait for their turn."""

    def __init__(self) -> None:
        self._line = asyncio.Lock()
        self._under_way: asyncio.Task[Any] | None = None

    async def whole(self, change: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Make a change once nothing else is being changed.

        Cancelling leaves the line; of a change that has begun it ends the waiting, not the change.
        A change may not make another one: that would wait for itself.
        """
        await self._line.acquire()
        self._under_way = asyncio.create_task(change())
        self._under_way.add_done_callback(self._is_over)
        return await asyncio.shield(self._under_way)

    def _is_over(self, change: "asyncio.Task[Any]") -> None:
        self._line.release()
        if not change.cancelled():
            change.exception()  # is for whoever waits; of one that nobody waits for it is no news
