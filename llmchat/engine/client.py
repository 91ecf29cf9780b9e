"""The local engine: finds or starts worker processes, and talks to them for core.

Owns find-or-start, the handshake, sharing and replacing, and what happens when a worker dies.
Refuses bytes and queues (link.py), processes (starting.py), and everything a worker decides itself.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress

from llmchat.engine import starting
from llmchat.engine.assignment import DEFAULT_KEEP_ALIVE, Assignment, Limits
from llmchat.engine.link import Link, fresh
from llmchat.engine.local_session import LocalSession
from llmchat.engine.protocol import (
    Facts,
    Hello,
    LoadFailed,
    Loading,
    Plan,
    Proceed,
    ProtocolError,
    Ready,
    Shutdown,
    StatusRequest,
    Welcome,
    WorkerStatus,
)
from llmchat.engine.registry import Registry, digest
from llmchat.engine.session import OnProgress, Session
from llmchat.engine.starting import Child
from llmchat.engine.wanting import satisfies
from llmchat.errors import EngineError, ModelBusy, WorkerDied
from llmchat.paths import Places
from llmchat.text.cleaning import clean_line
from llmchat.values import ModelFile, Wants

REAL = "llmchat.engine.worker"
SCRIPTED = "llmchat.engine.scripted"
_WELCOME = 30.0
"""A worker greets as soon as Python is up, whatever it loads; slow disks included."""
_FREE_LOCK = 30.0
_POLL = 0.02
_STATUS = 2.0
_CHILD_END = 0.3
_TRIES = 2
_REPLACEMENTS = 3


class LocalEngine:
    """Workers of this user on this machine. `face` names the client: `tui`, `run`."""

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
        wish = environ.get("LLMCHAT_ENGINE", "")
        if scripted is None and wish.split(":")[0] == "scripted":
            scripted = wish.partition(":")[2]
        self._places = places
        self._registry = Registry(places.run)
        self._environ = environ
        self._script = scripted
        self._keep_alive = keep_alive
        self._limits = limits or Limits()
        self._label = f"{face} {os.getpid()}"
        self._children: dict[str, Child] = {}
        self._sessions: set[LocalSession] = set()

    # opening

    async def open(
        self, model: ModelFile, wants: Wants, on_progress: OnProgress | None = None
    ) -> Session:
        """A session with a ready worker; see session.Engine.open."""
        self._registry.prepare()
        name = digest(model.identity, self._script)
        tries = replacements = 0
        while True:
            link, started = await self._find_or_start(name, model, wants)
            try:
                facts = await self._until_ready(link, model, on_progress)
                if started or await self._suits(link, model, facts, wants, replacements):
                    return self._session(name, link, facts)
                replacements += 1
                await link.aclose()
            except WorkerDied:
                await link.aclose()
                tries += 1
                if tries >= _TRIES or self._registry.keeps_dying(name):
                    raise
            except BaseException:
                await link.aclose()
                raise

    def _session(self, name: str, link: Link, facts: Facts) -> LocalSession:
        session = LocalSession(link, facts, self._label, on_close=self._sessions.discard)
        self._sessions.add(session)
        return session

    async def _find_or_start(self, name: str, model: ModelFile, wants: Wants) -> tuple[Link, bool]:
        """A greeted link, and whether we started the worker just now."""
        deadline = time.monotonic() + _FREE_LOCK
        started = False
        while True:
            link = await self._connect(name)
            if link is not None:
                return link, started
            with self._registry.lock(name) as held:
                if held is not None:
                    self._start(name, model, wants, held)
                    started = True
                    continue
            # Somebody starts it, or it is leaving.
            if time.monotonic() > deadline:
                raise EngineError("engine.no_answer", model=model.name, recoverable=True)
            await asyncio.sleep(_POLL)

    async def _connect(self, name: str) -> Link | None:
        async def autopsy(unreadable: ProtocolError | None) -> WorkerDied:
            return await self._autopsy(name, unreadable)

        link = await Link.connect(self._registry.socket_path(name), autopsy)
        if link is not None:
            link.send(Hello(client=self._label, pid=os.getpid(), keep_alive=self._keep_alive))
        return link

    def _start(self, name: str, model: ModelFile, wants: Wants, lock_fd: int) -> None:
        if self._registry.keeps_dying(name):
            raise self._kept_dying(name, model)
        log = starting.new_log(self._places.logs, name)
        try:
            with self._registry.listen(name) as listener:
                assignment = Assignment(
                    model=model,
                    wants=wants,
                    name=name,
                    run=str(self._registry.run),
                    listen_fd=listener.fileno(),
                    lock_fd=lock_fd,
                    keep_alive=(
                        DEFAULT_KEEP_ALIVE if self._keep_alive is None else self._keep_alive
                    ),
                    script=self._script or "",
                    limits=self._limits,
                )
                module = REAL if self._script is None else SCRIPTED
                self._children[name] = starting.start(
                    module, assignment, listener, log=log, environ=self._environ
                )
        except OSError as error:
            self._registry.socket_path(name).unlink(missing_ok=True)
            raise EngineError(
                "engine.cannot_start", model=model.name, reason=error.strerror or str(error)
            ) from error

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
                    "engine.load_failed", model=model.name, reason=clean_line(event.message)
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
        number, queue = link.new_request()
        answer = await link.ask(StatusRequest(id=number), number, queue)
        if not isinstance(answer, WorkerStatus):
            raise EngineError("engine.bad_frame", reason=type(answer).__name__)
        return answer

    async def _ask_to_leave(self, link: Link, *, if_idle: bool = True) -> bool:
        """Whether it agrees; then wait until it is gone."""
        number, queue = link.new_request()
        link.send(Shutdown(id=number, if_idle=if_idle))
        while True:
            answer = await queue.get()
            if isinstance(answer, WorkerDied):
                return True
            if getattr(answer, "code", "") == "busy":
                link.forget(number)
                return False

    # what is there

    async def live(self) -> list[WorkerStatus]:
        """Every live worker of this user; stale sockets are removed on the way."""
        found = await asyncio.gather(*(self._status_of(name) for name in self._registry.names()))
        return [status for status in found if status is not None]

    async def _status_of(self, name: str) -> WorkerStatus | None:
        link = await self._look(name)
        if link is None:
            return None
        try:
            return await asyncio.wait_for(self._ask_status(link), _STATUS)
        except (TimeoutError, EngineError):
            return None
        finally:
            await link.aclose()

    async def _look(self, name: str) -> Link | None:
        """A link that has not greeted: it does not count as a client."""

        async def autopsy(_unreadable: ProtocolError | None) -> WorkerDied:
            return WorkerDied()

        link = await Link.connect(self._registry.socket_path(name), autopsy)
        if link is None:
            self._registry.remove_stale(name)
        return link

    async def stop(self, pid: int, *, force: bool = False) -> bool:
        """End a live worker; see session.Engine.stop."""
        for name in self._registry.names():
            status = await self._status_of(name)
            if status is not None and status.pid == pid:
                return await self._stop(name, pid, force=force)
        return False

    async def _stop(self, name: str, pid: int, *, force: bool) -> bool:
        link = await self._look(name)
        if link is None:
            return True
        try:
            agreed = self._ask_to_leave(link, if_idle=not force)
            leaves = await asyncio.wait_for(agreed, starting.PATIENCE if force else _WELCOME)
            if not leaves:
                return False
            if await starting.gone_within(_FREE_LOCK, self._registry, name):
                return True
        except TimeoutError:
            if not force:
                return False
        finally:
            await link.aclose()
        await starting.end(pid, self._registry, name)
        return True

    def forget_deaths(self, model: ModelFile) -> None:
        """Somebody asked for this model: a crash loop no longer keeps it from being started."""
        self._registry.forget_deaths(digest(model.identity, self._script))

    # how it ended

    async def _autopsy(self, name: str, unreadable: ProtocolError | None) -> WorkerDied:
        log = starting.find_log(self._places.logs, name)
        if unreadable is not None:
            return WorkerDied(signal=clean_line(str(unreadable)), last_lines=())
        child = self._children.get(name)
        how = await _how_it_ended(child) if child else ""
        lines = starting.last_lines(log)
        how = how or starting.signal_in(lines)
        if how and how not in starting.CLEAN_EXITS and child:
            self._registry.note_death(name, child.pid, how)
        return WorkerDied(signal=how or "?", last_lines=lines)

    def _kept_dying(self, name: str, model: ModelFile) -> WorkerDied:
        deaths = self._registry.deaths(name)
        return WorkerDied(
            "engine.keeps_dying",
            signal=deaths[-1].how,
            last_lines=starting.last_lines(starting.find_log(self._places.logs, name)),
            model=model.name,
            count=len(deaths),
        )

    async def aclose(self) -> None:
        """Close every session that is still open."""
        for session in list(self._sessions):
            with suppress(EngineError):
                await session.aclose()


async def _how_it_ended(child: Child) -> str:
    for _ in range(round(_CHILD_END / _POLL)):
        if child.ended.is_set():
            break
        await asyncio.sleep(_POLL)
    return child.how
