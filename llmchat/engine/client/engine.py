"""The local engine: opens models in worker processes, and talks to them for core.

Owns the handshake, sharing and replacing, listing and stopping. Refuses bytes and queues (link.py),
the race to start one (finding.py), processes (starting.py), and what a worker decides itself.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress

from llmchat.engine.assignment import Limits
from llmchat.engine.client import starting
from llmchat.engine.client.cancelling import see_it_end
from llmchat.engine.client.finding import FREE_LOCK, Finder, Starter
from llmchat.engine.client.link import Link, Waiting, fresh
from llmchat.engine.client.session import LocalSession
from llmchat.engine.client.wanting import satisfies
from llmchat.engine.protocol import (
    Facts,
    Failed,
    LoadFailed,
    Loading,
    Plan,
    Proceed,
    Ready,
    Shutdown,
    StatusRequest,
    Welcome,
    WorkerStatus,
)
from llmchat.engine.registry import Registry
from llmchat.engine.session import OnLate, OnProgress, Session
from llmchat.errors import EngineError, ModelBusy, WorkerDied
from llmchat.paths import Places
from llmchat.text.cleaning import clean_line
from llmchat.values import ModelFile, Wants

_WELCOME = 30.0
"""A worker greets as soon as Python is up, whatever it loads; slow disks included."""
_STATUS = 2.0
_TRIES = 2
_REPLACEMENTS = 3
_VARIABLE = "LLMCHAT_ENGINE"
_SCRIPTED = "scripted"


class LocalEngine:
    """Workers of this user on this machine.

    Args:
        places: where sockets and logs are.
        face: who asks, for other clients' eyes: `tui`, `run`.
        environ: what workers get (starting.allowed) and where LLMCHAT_ENGINE is read.
        scripted: start scripted workers with this script; unset, LLMCHAT_ENGINE decides.
        keep_alive: this client's wish for every worker that it uses; None = what stands.
        limits: a worker's patience, for tests.
    """

    def __init__(
        self,
        places: Places,
        *,
        face: str,
        environ: Mapping[str, str] = os.environ,
        scripted: str | None = None,
        keep_alive: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        engine, _, script = environ.get(_VARIABLE, "").partition(":")
        if scripted is None and engine == _SCRIPTED:
            scripted = script
        self._label = f"{face} {os.getpid()}"
        starter = Starter(self._label, environ, scripted, keep_alive, limits or Limits())
        self._finder = Finder(places, starter)
        self._sessions: set[LocalSession] = set()
        self._cancels: set[asyncio.Task[None]] = set()

    @property
    def registry(self) -> Registry:
        """Sockets, locks and deaths of this user's workers."""
        return self._finder.registry

    def name(self, model: ModelFile) -> str:
        """What this client's workers for a model are called in the registry."""
        return self._finder.name(model)

    # opening

    async def open(
        self, model: ModelFile, wants: Wants, on_progress: OnProgress | None = None
    ) -> Session:
        """A session with a ready worker; see session.Engine.open."""
        self.registry.prepare()
        name = self.name(model)
        tries = replacements = 0
        while True:
            link, started = await self._finder.find_or_start(name, model, wants)
            try:
                facts = await self._until_ready(link, model, on_progress)
                if started or await self._suits(link, model, facts, wants, replacements):
                    return self._session(name, link, facts)
                replacements += 1
            except WorkerDied:
                tries += 1
                if tries >= _TRIES or self.registry.keeps_dying(name):
                    await link.aclose()
                    raise
            except BaseException:
                await link.aclose()
                raise
            await link.aclose()

    def _session(self, name: str, link: Link, facts: Facts) -> LocalSession:
        def cancelled(request: int, queue: Waiting, choices: int, late: OnLate | None) -> None:
            watch = see_it_end(
                link,
                request,
                queue,
                choices=choices,
                late=late,
                label=self._label,
                end=lambda pid: self._end(name, pid),
            )
            task = asyncio.create_task(watch)
            self._cancels.add(task)
            task.add_done_callback(self._cancels.discard)

        session = LocalSession(link, facts, on_close=self._sessions.discard, on_cancel=cancelled)
        self._sessions.add(session)
        return session

    async def _until_ready(
        self, link: Link, model: ModelFile, on_progress: OnProgress | None
    ) -> Facts:
        timeout: float | None = _WELCOME
        while True:
            try:
                event = await asyncio.wait_for(link.life.get(), timeout)
            except TimeoutError:
                raise EngineError("engine.no_answer", model=model.name) from None
            timeout = None
            if isinstance(event, WorkerDied):
                raise fresh(event)
            if isinstance(event, Ready):
                return event.facts
            if isinstance(event, LoadFailed):
                raise EngineError(
                    "engine.not_loaded", model=model.name, reason=clean_line(event.message)
                )
            if isinstance(event, Plan):
                link.send(Proceed())
            if on_progress is not None and isinstance(event, Plan | Loading):
                on_progress(event)
            if not isinstance(event, Welcome | Plan | Loading):
                raise EngineError("engine.bad_frame", reason=type(event).__name__)

    async def _suits(
        self, link: Link, model: ModelFile, facts: Facts, wants: Wants, replacements: int
    ) -> bool:
        """Whether to share this worker. False: it has been asked to leave, and does.

        Raises:
            ModelBusy: it has other clients, or works.
        """
        if wants == Wants():
            return True
        status = await self._ask_status(link)
        if satisfies(status.wants or Wants(), facts, wants):
            return True
        others = sorted({clean_line(name) for name in status.clients if name != self._label})
        if others or replacements >= _REPLACEMENTS or not await self._ask_to_leave(link):
            raise ModelBusy(
                "engine.busy",
                recoverable=True,
                model=model.name,
                clients=", ".join(others) or self._label,
            )
        return False

    async def _ask_status(self, link: Link) -> WorkerStatus:
        answer = await link.ask(lambda number: StatusRequest(id=number))
        if not isinstance(answer, WorkerStatus):
            raise EngineError("engine.bad_frame", reason=type(answer).__name__)
        return answer

    async def _ask_to_leave(self, link: Link, *, if_idle: bool = True) -> bool:
        """Whether it agrees; then wait until it has closed the connection."""
        number, queue = link.new_request()
        link.send(Shutdown(id=number, if_idle=if_idle))
        while True:
            answer = await queue.get()
            if isinstance(answer, WorkerDied):
                return True
            if isinstance(answer, Failed):
                link.forget(number)
                return False

    # what is there

    async def live(self) -> list[WorkerStatus]:
        """Every live worker of this user; stale sockets are removed on the way."""
        names = self.registry.names()
        found = await asyncio.gather(*(self._status_of(name) for name in names))
        return [status for status in found if status is not None]

    async def _status_of(self, name: str) -> WorkerStatus | None:
        link = await self._finder.look(name)
        if link is None:
            return None
        try:
            return await asyncio.wait_for(self._ask_status(link), _STATUS)
        except (TimeoutError, EngineError):
            return None
        finally:
            await link.aclose()

    async def stop(self, pid: int, *, force: bool = False) -> bool:
        """End a live worker; see session.Engine.stop. False also if there is none."""
        for name in self.registry.names():
            status = await self._status_of(name)
            if status is not None and status.pid == pid:
                return await self._stop(name, pid, force=force)
        return False

    async def _stop(self, name: str, pid: int, *, force: bool) -> bool:
        link = await self._finder.look(name)
        if link is None:
            return True
        try:
            agreed = self._ask_to_leave(link, if_idle=not force)
            leaves = await asyncio.wait_for(agreed, starting.PATIENCE if force else _WELCOME)
            gone = leaves and await starting.gone_within(FREE_LOCK, self.registry, name)
        except TimeoutError:
            gone = False
        finally:
            await link.aclose()
        if force and not gone:
            await self._end(name, pid)
        return gone or force

    async def _end(self, name: str, pid: int) -> None:
        self._finder.ended_by_us.add(pid)
        await starting.end(pid, self.registry, name)

    def forget_deaths(self, model: ModelFile) -> None:
        """Somebody asked for this model: a crash loop no longer keeps it from being started."""
        self.registry.forget_deaths(self.name(model))

    async def aclose(self) -> None:
        """Close every session that is still open."""
        for task in list(self._cancels):
            task.cancel()
        for session in list(self._sessions):
            with suppress(EngineError):
                await session.aclose()
