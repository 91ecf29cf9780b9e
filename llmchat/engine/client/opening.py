"""Opening a model: which worker serves, which one is replaced, and when a second one starts.

A model may have several workers here, in slots: `NAME`, `NAME.2` and so on. One that satisfies the
wants is shared. A lone, idle one that does not is replaced. Beside one that others use, another is
started in the next slot if it fits; else `ModelBusy` names who stands in the way. Refuses processes
(finding.py) and requests (session.py).
"""

import asyncio
from dataclasses import dataclass

from llmchat.engine.client.finding import Finder
from llmchat.engine.client.link import Link, fresh
from llmchat.engine.client.room import Room, answer
from llmchat.engine.client.wanting import satisfies
from llmchat.engine.protocol import (
    Facts,
    Failed,
    LoadFailed,
    Loading,
    Plan,
    Ready,
    Shutdown,
    StatusRequest,
    Welcome,
    WorkerStatus,
)
from llmchat.engine.registry import slots
from llmchat.engine.session import OnProgress
from llmchat.errors import EngineError, ModelBusy, WorkerDied
from llmchat.text import FALLBACK, catalogue, say
from llmchat.text.cleaning import clean_line
from llmchat.values import ModelFile, Wants

WELCOME = 30.0
"""A worker greets as soon as Python is up, whatever it loads; slow disks included."""
_TRIES = 2
_REPLACEMENTS = 3
_REFUSED = ("engine.load_stopped", "engine.load_given_up")


@dataclass(frozen=True, slots=True)
class Open:
    """A ready worker: its name in the registry, a link that it has greeted, what it loaded."""

    name: str
    link: Link
    facts: Facts


class Opening:
    """One client's wish for a model. `run` once."""

    def __init__(
        self,
        finder: Finder,
        room: Room,
        model: ModelFile,
        wants: Wants,
        on_progress: OnProgress | None,
    ) -> None:
        self._finder = finder
        self._room = room
        self._model = model
        self._wants = wants
        self._on_progress = on_progress

    async def run(self) -> Open:
        """A worker that serves.

        Raises:
            EngineError: it cannot be loaded, found or started.
            WorkerDied: it died while loading, twice.
            ModelBusy: others use it with other wants, and a second one does not fit.
        """
        names = slots(self._finder.name(self._model))
        live = [name for name in names if self._finder.registry.socket_path(name).exists()]
        if len(live) > 1:  # before anybody is replaced or started: the right one may be there
            for name in live:
                found = await self._join(name)
                if found is not None:
                    return found
        busy: ModelBusy | None = None
        for name in names:
            try:
                return await self._open(name, beside=busy)
            except ModelBusy as error:
                if busy is not None and name not in live:
                    break  # no room for one more
                busy = busy or error
        assert busy is not None
        raise busy

    async def _join(self, name: str) -> Open | None:
        link = await self._finder.greet(name)
        if link is None:
            return None
        try:
            facts = await self._until_ready(link, beside=None)
            if await self._satisfied(link, facts):
                return Open(name, link, facts)
        except EngineError:
            pass  # it is leaving, or cannot be loaded: the usual way says so
        except BaseException:
            await link.aclose()
            raise
        await link.aclose()
        return None

    async def _open(self, name: str, *, beside: ModelBusy | None) -> Open:
        """Find or start the worker of a slot, and wait until it is ready."""
        tries = replacements = 0
        while True:
            link, started = await self._finder.find_or_start(name, self._model, self._wants)
            try:
                facts = await self._until_ready(link, beside=beside if started else None)
                if started or await self._suits(link, facts, replacements):
                    return Open(name, link, facts)
                replacements += 1
            except (WorkerDied, _GivenUp):
                tries += 1
                if tries >= _TRIES or self._finder.registry.keeps_dying(name):
                    await link.aclose()
                    raise
            except BaseException:
                await link.aclose()
                raise
            await link.aclose()

    async def _until_ready(self, link: Link, *, beside: ModelBusy | None) -> Facts:
        timeout: float | None = WELCOME
        while True:
            try:
                event = await asyncio.wait_for(link.life.get(), timeout)
            except TimeoutError:
                raise EngineError("engine.no_answer", model=self._model.name) from None
            timeout = None
            if isinstance(event, WorkerDied):
                raise fresh(event)
            if isinstance(event, Ready):
                return event.facts
            if isinstance(event, LoadFailed):
                raise self._not_loaded(event)
            if isinstance(event, Plan):
                await self._agree(link, event, beside)
            if self._on_progress is not None and isinstance(event, Plan | Loading):
                self._on_progress(event)
            if not isinstance(event, Welcome | Plan | Loading):
                raise EngineError("engine.bad_frame", reason=type(event).__name__)

    async def _agree(self, link: Link, plan: Plan, beside: ModelBusy | None) -> None:
        identity = None if beside is None else self._model.identity
        said = await answer(plan, self._room, beside=identity)
        link.send(said)
        if beside is not None and not said.go:
            raise beside

    def _not_loaded(self, event: LoadFailed) -> EngineError:
        kind = _GivenUp if event.code in _REFUSED else EngineError
        reason = clean_line(event.message)
        next_step = catalogue(FALLBACK).get(f"{event.code}_hint", "")
        if not next_step or "{" in next_step:  # its values stayed in the worker
            return kind("engine.not_loaded", model=self._model.name, reason=reason)
        return kind(
            "engine.not_loaded_with_hint",
            model=self._model.name,
            reason=reason,
            next=say(f"{event.code}_hint"),
        )

    # sharing

    async def _satisfied(self, link: Link, facts: Facts) -> bool:
        if self._wants == Wants():
            return True
        status = await ask_status(link)
        return satisfies(status.wants or Wants(), facts, self._wants)

    async def _suits(self, link: Link, facts: Facts, replacements: int) -> bool:
        """Whether to share this worker. False: it has been asked to leave, and does.

        Raises:
            ModelBusy: it has other clients, or works.
        """
        if await self._satisfied(link, facts):
            return True
        ours = self._finder.label
        status = await ask_status(link)
        others = sorted({clean_line(name) for name in status.clients if name != ours})
        if others or replacements >= _REPLACEMENTS or not await ask_to_leave(link):
            raise ModelBusy(
                "engine.busy",
                recoverable=True,
                model=self._model.name,
                clients=", ".join(others) or ours,
            )
        return False


class _GivenUp(EngineError):
    """The load was refused by another client that waited for it."""


async def ask_status(link: Link) -> WorkerStatus:
    """What a worker holds and who uses it.

    Raises:
        WorkerDied: it is gone.
    """
    answered = await link.ask(lambda number: StatusRequest(id=number))
    if not isinstance(answered, WorkerStatus):
        raise EngineError("engine.bad_frame", reason=type(answered).__name__)
    return answered


async def ask_to_leave(link: Link, *, if_idle: bool = True) -> bool:
    """Whether it agrees; then wait until it has closed the connection."""
    number, queue = link.new_request()
    link.send(Shutdown(id=number, if_idle=if_idle))
    while True:
        answered = await queue.get()
        if isinstance(answered, WorkerDied):
            return True
        if isinstance(answered, Failed):
            link.forget(number)
            return False
