"""The local engine: opens models in worker processes, and talks to them for core.

Owns sessions, listing and stopping. Refuses bytes and queues (link.py), sharing and replacing
(opening.py), the race to start one (finding.py), processes (starting.py), and what a worker
decides itself.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress

from llmchat.engine.assignment import Limits
from llmchat.engine.client import starting
from llmchat.engine.client.cancelling import see_it_end
from llmchat.engine.client.finding import FREE_LOCK, Finder, Starter
from llmchat.engine.client.link import Link, Waiting
from llmchat.engine.client.opening import WELCOME, Opening, ask_status, ask_to_leave
from llmchat.engine.client.room import Room
from llmchat.engine.client.session import LocalSession
from llmchat.engine.disk import Folder
from llmchat.engine.protocol import Facts, WorkerStatus
from llmchat.engine.registry import Registry
from llmchat.engine.session import OnLate, OnProgress, Session
from llmchat.errors import ConfigError, EngineError
from llmchat.paths import Places
from llmchat.values import ModelFile, Wants

_STATUS = 2.0
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
        kv_budget: bytes that saved KV states may take, for every worker from the next open on; 0
            empties the folder. None: nothing of this program reaches it, and it stays as it is.
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
        kv_budget: int | None = None,
    ) -> None:
        engine, _, script = environ.get(_VARIABLE, "").partition(":")
        if scripted is None and engine == _SCRIPTED:
            scripted = script
        self._label = f"{face} {os.getpid()}"
        starter = Starter(self._label, environ, scripted, keep_alive, limits or Limits())
        self._finder = Finder(places, starter)
        self._kv = Folder(places.kv)
        self._kv_budget = kv_budget
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
        await asyncio.to_thread(self._set_kv_budget)
        room = Room(live=self.live, leave=self.stop)
        found = await Opening(self._finder, room, model, wants, on_progress).run()
        return self._session(found.name, found.link, found.facts)

    def _set_kv_budget(self) -> None:
        if self._kv_budget is None:
            return
        # A cache that cannot be used must not keep anybody from chatting; doctor says so.
        with suppress(OSError, ConfigError):
            self._kv.set_budget(self._kv_budget)

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

        session = LocalSession(
            link,
            facts,
            on_close=self._sessions.discard,
            on_cancel=cancelled,
            saves_kv=self._kv_budget is not None,
        )
        self._sessions.add(session)
        return session

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
            return await asyncio.wait_for(ask_status(link), _STATUS)
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
            agreed = ask_to_leave(link, if_idle=not force)
            leaves = await asyncio.wait_for(agreed, starting.PATIENCE if force else WELCOME)
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
