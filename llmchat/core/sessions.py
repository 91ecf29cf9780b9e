"""The models that this program has open: one session a model, reused from turn to turn.

A worker that has left or died is opened again by the next turn. A session whose wants no longer
fit is closed first, so that we are not the client who stands in our own way.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from llmchat.engine.session import OnProgress, Session
from llmchat.values import ModelFile, Wants


class ModelSource(Protocol):
    """What a turn needs of `core/models.py`."""

    def resolve(self, ref: str) -> ModelFile:
        """The model a name means."""
        ...

    def list(self) -> "Sequence[ModelFile]":
        """Every model there is."""
        ...

    def default(self) -> ModelFile | None:
        """The model to use when nothing says which."""
        ...

    async def open(
        self, model: ModelFile, wants: Wants, on_progress: OnProgress | None = None
    ) -> Session:
        """Load it."""
        ...


@dataclass(slots=True)
class _Held:
    session: Session
    wants: Wants
    keep_alive: float | None = None
    users: int = 0


class Sessions:
    """Open sessions by model identity."""

    def __init__(self, models: ModelSource) -> None:
        self._models = models
        self._held: dict[str, _Held] = {}
        self._leaving: list[Session] = []
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def use(
        self, model: ModelFile, wants: Wants, keep_alive: float | None, on_progress: OnProgress
    ) -> AsyncIterator[Session]:
        """A session that satisfies `wants`, opened if need be.

        Raises:
            EngineError: it cannot be opened.
        """
        async with self._locks.setdefault(model.identity, asyncio.Lock()):
            held = await self._find_or_open(model, wants, on_progress)
            if keep_alive is not None and held.keep_alive != keep_alive:
                await held.session.keep_alive(keep_alive)
                held.keep_alive = keep_alive
            held.users += 1
        try:
            yield held.session
        finally:
            held.users -= 1

    async def _find_or_open(self, model: ModelFile, wants: Wants, on_progress: OnProgress) -> _Held:
        held = self._held.get(model.identity)
        if held is not None and held.session.alive and held.wants == wants:
            return held
        if held is not None:
            del self._held[model.identity]
            if held.users and held.session.alive:
                self._leaving.append(held.session)  # a turn still reads from it
            else:
                await held.session.aclose()
        session = await self._models.open(model, wants, on_progress)
        self._held[model.identity] = held = _Held(session, wants)
        return held

    def live(self, identity: str) -> Session | None:
        """The open session of a model, if it is there right now."""
        held = self._held.get(identity)
        return held.session if held is not None and held.session.alive else None

    async def aclose(self) -> None:
        """Let go of every model; the workers live on for their keep-alive."""
        self._leaving += [held.session for held in self._held.values()]
        self._held.clear()
        while self._leaving:
            await self._leaving.pop().aclose()
