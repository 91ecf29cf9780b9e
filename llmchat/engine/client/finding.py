"""Finding the worker of a model, or starting one; and saying how one died.

Owns the race between clients: whoever gets the name's lock starts, everybody else waits for the
socket. Refuses the handshake's meaning and wants (client.py).
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from llmchat.engine.assignment import DEFAULT_KEEP_ALIVE, Assignment, Limits
from llmchat.engine.client import starting, starved
from llmchat.engine.client.link import Link
from llmchat.engine.client.starting import Child
from llmchat.engine.protocol import Hello, ProtocolError
from llmchat.engine.registry import Registry, digest
from llmchat.engine.transport import wants_tcp
from llmchat.errors import EngineError, WorkerDied
from llmchat.paths import Places
from llmchat.text import say
from llmchat.values import ModelFile, Wants

REAL = "llmchat.engine.worker"
SCRIPTED = "llmchat.engine.scripted"
FREE_LOCK = 30.0
"""Seconds for a worker that leaves to free its memory and end."""
_POLL = 0.02
_CHILD_END = 0.3
"""Seconds from a closed socket to the child's exit status; a death is told within half a second."""


@dataclass(frozen=True, slots=True)
class Starter:
    """What a client brings to every worker that it greets or starts."""

    label: str
    """Its name for other clients: the face and the pid."""
    environ: Mapping[str, str]
    script: str | None
    """Start scripted workers, told this; None = real ones."""
    keep_alive: float | None
    limits: Limits


class Finder:
    """Workers by name, on this user's run folder."""

    def __init__(self, places: Places, starter: Starter) -> None:
        self._places = places
        self._starter = starter
        self._children: dict[str, Child] = {}
        self.registry = Registry(places.run, tcp=wants_tcp(starter.environ))
        self.ended_by_us: set[int] = set()
        """Pids that were made to leave: no deaths to count."""

    @property
    def label(self) -> str:
        """What other clients see of this one."""
        return self._starter.label

    def name(self, model: ModelFile) -> str:
        """What this client's workers for a model are called."""
        return digest(model.identity, self._starter.script)

    async def find_or_start(self, name: str, model: ModelFile, wants: Wants) -> tuple[Link, bool]:
        """A link that has said Hello, and whether the worker was started just now.

        Raises:
            EngineError: it cannot be started, or neither answers nor leaves.
            WorkerDied: it died too often to be started again unasked.
        """
        deadline = time.monotonic() + FREE_LOCK
        before = starved.kills()
        started = False
        while True:
            link = await self.greet(name)
            if link is not None:
                return link, started
            if started and not self.registry.held(name):
                raise await self._autopsy(name, 0, None, before)  # it died before we could connect
            if self._start_if_free(name, model, wants):
                started = True
                continue
            # Somebody starts it, or it is leaving.
            if time.monotonic() > deadline:
                raise EngineError("engine.no_answer", model=model.name, recoverable=True)
            await asyncio.sleep(_POLL)

    async def greet(self, name: str) -> Link | None:
        """A link that has said Hello; None if nobody listens."""
        before = starved.kills()

        async def autopsy(link: Link, unreadable: ProtocolError | None) -> WorkerDied:
            return await self._autopsy(name, link.welcome.pid, unreadable, before)

        link = await Link.connect(self.registry.socket_path(name), autopsy)
        if link is not None:
            keep_alive = self._starter.keep_alive
            link.send(Hello(client=self._starter.label, pid=os.getpid(), keep_alive=keep_alive))
        return link

    async def look(self, name: str) -> Link | None:
        """A link that has not said Hello, so that it does not count as a client."""

        async def autopsy(_link: Link, _unreadable: ProtocolError | None) -> WorkerDied:
            return WorkerDied("engine.left")

        link = await Link.connect(self.registry.socket_path(name), autopsy)
        if link is None:
            self.registry.remove_stale(name)
        return link

    # starting

    def _start_if_free(self, name: str, model: ModelFile, wants: Wants) -> bool:
        try:
            with self.registry.lock(name) as held:
                if held is None:
                    return False
                if self.registry.keeps_dying(name):
                    raise self._kept_dying(name, model)
                self._start(name, model, wants, held)
        except OSError as error:
            raise EngineError(
                "engine.cannot_start", model=model.name, reason=error.strerror or str(error)
            ) from error
        return True

    def _start(self, name: str, model: ModelFile, wants: Wants, lock_fd: int) -> None:
        starter = self._starter
        log = starting.new_log(self._places.logs, name)
        with self.registry.listen(name) as listener:
            assignment = Assignment(
                model=model,
                wants=wants,
                name=name,
                run=str(self.registry.run),
                machine=str(self._places.machine),
                listen_fd=listener.fileno(),
                lock_fd=lock_fd,
                keep_alive=(
                    DEFAULT_KEEP_ALIVE if starter.keep_alive is None else starter.keep_alive
                ),
                kv=str(self._places.kv),
                script=starter.script or "",
                limits=starter.limits,
            )
            module = REAL if starter.script is None else SCRIPTED
            child = starting.start(module, assignment, listener, log=log, environ=starter.environ)
        self._children[name] = child

    def _kept_dying(self, name: str, model: ModelFile) -> WorkerDied:
        deaths = self.registry.deaths(name)
        return WorkerDied(
            "engine.keeps_dying",
            signal=deaths[-1].how if deaths else "",
            last_lines=starting.last_lines(starting.find_log(self._places.logs, name)),
            model=model.name,
            count=len(deaths),
        )

    # how it ended

    async def _autopsy(
        self, name: str, pid: int, unreadable: ProtocolError | None, before: int
    ) -> WorkerDied:
        """`before`: `starved.kills()` when the worker was met."""
        log = starting.find_log(self._places.logs, name)
        if unreadable is not None:
            return WorkerDied(signal=say("engine.garbage"), last_lines=starting.last_lines(log))
        how = await self._exit_of(name, pid)
        lines = starting.last_lines(log)
        how = how or starting.end_in(lines)
        if not how and self.registry.held(name):
            return WorkerDied(signal=say("engine.hung_up"), last_lines=lines)
        if how in starting.CLEAN_EXITS and starting.left_by_itself(lines):
            return WorkerDied("engine.left", last_lines=lines)
        child = self._children.get(name)
        pid = pid or (child.pid if child is not None else 0)
        if pid not in self.ended_by_us:
            self.registry.note_death(name, pid, how)
        return starved.death(how, lines, by_kernel=starved.kills() > before)

    async def _exit_of(self, name: str, pid: int) -> str:
        """How our child ended; empty for somebody else's, and for one that still lives.

        Before Welcome the pid is unknown (0): then it is the one that we started.
        """
        child = self._children.get(name)
        if child is None or pid not in (0, child.pid):
            return ""
        for _ in range(round(_CHILD_END / _POLL)):
            if child.ended.is_set():
                break
            await asyncio.sleep(_POLL)
        return child.how
