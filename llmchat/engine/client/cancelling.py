"""Seeing a cancelled request end: first by asking, in the end by ending the worker.

Runs beside whatever the face does; nobody waits for it. A client may end a worker only as its sole
user, when a cancelled request has not ended after 2 s, or when the worker is busy and its loop has
not moved for 10 s: neighbours are never cut off by somebody's impatience.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from llmchat.engine.client.link import Link, Waiting
from llmchat.engine.protocol import (
    Delta,
    Failed,
    Finished,
    Ping,
    Pong,
    StatusRequest,
    WorkerStatus,
)
from llmchat.engine.session import OnLate
from llmchat.errors import WorkerDied

OBEYS = 2.0
MOVES = 10.0
_LOOK = 0.5


async def see_it_end(
    link: Link,
    request: int,
    queue: Waiting,
    *,
    choices: int,
    late: OnLate | None = None,
    label: str,
    end: Callable[[int], Awaitable[None]],
) -> None:
    """Wait for a cancelled request's end; call `end(pid)` when that is what it takes.

    `choices`: Finished events still owed. `late` gets what comes in the first `OBEYS` seconds.
    `label`: our own name among the worker's clients.
    """
    try:
        if await _ends_within(OBEYS, queue, choices, late):
            return
        moved, step = time.monotonic(), -1
        while True:
            if await _sole_user(link, label):
                break
            now_at = await _step(link)
            if now_at is not None and now_at != step:
                moved, step = time.monotonic(), now_at
            if time.monotonic() - moved > MOVES:
                break
            if await _ends_within(_LOOK, queue, choices):
                return
        link.forget(request)
        await end(link.welcome.pid)
    except WorkerDied:
        return
    finally:
        link.forget(request)


async def _ends_within(
    seconds: float, queue: Waiting, choices: int, late: OnLate | None = None
) -> bool:
    try:
        async with asyncio.timeout(seconds):
            while choices > 0:
                event = await queue.get()
                if isinstance(event, Failed | WorkerDied):
                    return True
                if late is not None and isinstance(event, Delta | Finished):
                    late(event)
                choices -= isinstance(event, Finished)
    except TimeoutError:
        return False
    return True


async def _sole_user(link: Link, label: str) -> bool:
    """Nobody else is connected, and nothing else of ours waits on this connection."""
    answer = await _quick(link, lambda number: StatusRequest(id=number))
    alone = isinstance(answer, WorkerStatus) and not answer.clients
    return alone and link.waiting == 1


async def _step(link: Link) -> int | None:
    answer = await _quick(link, lambda number: Ping(id=number))
    return answer.step if isinstance(answer, Pong) else None


async def _quick(link: Link, make: Callable[[int], StatusRequest | Ping]) -> object:
    try:
        async with asyncio.timeout(1.0):
            return await link.ask(make)
    except TimeoutError:
        return None
