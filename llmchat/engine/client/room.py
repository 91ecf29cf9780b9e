"""Answering a plan: whether to go on, after asking idle workers to leave when memory is short.

Owns who is asked: those that hold memory on a device that is short, the longest idle first, as few
as it takes. Each decides itself (`Shutdown(if_idle)`); connected clients do not protect it, the
next request starts it again. Refuses to talk to workers: it is handed a list and a way to stop one.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from llmchat.engine.protocol import Plan, Proceed, WorkerStatus


@dataclass(frozen=True, slots=True)
class Room:
    """What a client can do about memory: see who is there, and ask one to leave."""

    live: Callable[[], Awaitable[Sequence[WorkerStatus]]]
    leave: Callable[[int], Awaitable[bool]]
    """Asks a worker by its pid; True once its process has ended."""


async def answer(plan: Plan, room: Room, *, beside: str | None = None) -> Proceed:
    """What to say to a plan.

    `beside`: the identity of its model, when that has a worker that others use. This one must then
    fit as it should, or not load at all, and it is not that one which has to leave.
    """
    if not plan.short:
        return Proceed(plan=plan.number)
    strangers = [worker for worker in await room.live() if worker.identity != beside]
    left = [await room.leave(worker.pid) for worker in leavers(plan.short, strangers)]
    if any(left):
        return Proceed(plan=plan.number, again=True)
    return Proceed(plan=plan.number, go=beside is None)


def leavers(short: dict[str, int], live: Sequence[WorkerStatus]) -> list[WorkerStatus]:
    """Whom to ask for `short` bytes by device: even too few bytes place more layers."""
    missing = dict(short)
    chosen = []
    for worker in sorted(live, key=lambda status: -status.idle_seconds):
        if worker.state != "idle":
            continue
        gives = _gives(worker, missing)
        if not any(gives.values()):
            continue
        chosen.append(worker)
        missing = {name: size - gives[name] for name, size in missing.items()}
        missing = {name: size for name, size in missing.items() if size > 0}
        if not missing:
            break
    return chosen


def _gives(worker: WorkerStatus, missing: dict[str, int]) -> dict[str, int]:
    """Bytes on the devices that are short; a worker of an older version does not say where."""
    return {name: worker.memory.get(name, 0) if worker.memory else worker.size for name in missing}
