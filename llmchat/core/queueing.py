"""Downloads that wait their turn: started, paused, gone on with, called off.

Owns the queue, one thread that pulls while there is something to pull, and what listeners are told.
Refuses to know bytes: it is given something that pulls one plan and something that clears it away.
"""

import threading
from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from llmchat.errors import Interrupted, LlmchatError, NotFound
from llmchat.hub.plan import DownloadPlan, Progress
from llmchat.values import ModelFile

State = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
_ENDED = ("done", "failed", "cancelled")


class Download(Struct, frozen=True, kw_only=True):
    """One download as it stands. A change makes another value with the same id."""

    id: int
    plan: DownloadPlan
    state: State = "queued"
    progress: Progress | None = None
    model: ModelFile | None = None
    error: LlmchatError | None = None


Listener = Callable[[Download], None]


class Puller(Protocol):
    """What fetches one plan; see `Downloads.pull`."""

    def __call__(
        self,
        plan: DownloadPlan,
        on_progress: Callable[[Progress], None],
        stop: threading.Event,
    ) -> ModelFile:
        """The model, once it is here."""


class Queue:
    """Downloads one after another. Any thread may call; listeners are called from its thread."""

    def __init__(self, pull: Puller, clear: Callable[[DownloadPlan], None]) -> None:
        self._pull, self._clear = pull, clear
        self._lock = threading.Lock()
        self._downloads: dict[int, Download] = {}
        self._stops: dict[int, threading.Event] = {}
        self._listeners: list[Listener] = []
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, plan: DownloadPlan) -> Download:
        """Put a plan at the end of the queue; one that is in it already stays where it is."""
        with self._lock:
            for known in self._downloads.values():
                if known.state not in _ENDED and _same(known.plan, plan):
                    return known
            download = Download(id=len(self._downloads) + 1, plan=plan)
            self._downloads[download.id] = download
        self._tell(download)
        self._work()
        return download

    def pause(self, identity: int) -> Download:
        """Let it rest: what has come stays. One that has ended stays as it is.

        Raises:
            NotFound: no such download.
        """
        return self._leave(identity, "paused")

    def cancel(self, identity: int) -> Download:
        """Give it up, and throw away what has come of files that are not whole.

        Raises:
            NotFound: no such download.
        """
        before = self._get(identity).state
        left = self._leave(identity, "cancelled")
        if before in ("queued", "paused"):  # a running one is cleared by its own thread
            self._clear(left.plan)
        return left

    def resume(self, identity: int) -> Download:
        """Queue it again: one that rests, failed or was called off.

        Raises:
            NotFound: no such download.
        """
        resting = self._get(identity)
        if resting.state in ("queued", "running", "done"):
            return resting
        queued = self._put(replace(resting, state="queued", error=None))
        self._work()
        return queued

    def all(self) -> tuple[Download, ...]:
        """Every download of this program, in the order of its start."""
        with self._lock:
            return tuple(self._downloads.values())

    def follow(self, listener: Listener) -> Callable[[], None]:
        """Be told of every change from now on; call what comes back to be told no more."""
        with self._lock:
            self._listeners.append(listener)

        def leave() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return leave

    def close(self) -> None:
        """Stop what runs, and wait for it. What has come stays."""
        with self._lock:
            self._closed = True
            for stop in self._stops.values():
                stop.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _get(self, identity: int) -> Download:
        with self._lock:
            if identity not in self._downloads:
                raise NotFound("hub.no_download", number=identity)
            return self._downloads[identity]

    def _leave(self, identity: int, state: State) -> Download:
        download = self._get(identity)
        if download.state in _ENDED or download.state == state:
            return download
        left = self._put(replace(download, state=state))
        with self._lock:
            if identity in self._stops:
                self._stops[identity].set()
        return left

    def _put(self, download: Download) -> Download:
        with self._lock:
            self._downloads[download.id] = download
        self._tell(download)
        return download

    def _tell(self, download: Download) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(download)

    def _work(self) -> None:
        """See that a thread works while something is queued."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="downloads", daemon=True)
                self._thread.start()

    def _next(self) -> tuple[Download, threading.Event] | None:
        """The oldest one that waits, now running; None ends the thread."""
        with self._lock:
            waiting = [d for d in self._downloads.values() if d.state == "queued"]
            if self._closed or not waiting:
                self._thread = None
                return None
            running = replace(waiting[0], state="running")
            self._downloads[running.id] = running
            stop = self._stops[running.id] = threading.Event()
        self._tell(running)
        return running, stop

    def _run(self) -> None:
        while (chosen := self._next()) is not None:
            download, stop = chosen
            try:
                model = self._pull(download.plan, self._progress_of(download.id), stop)
            except Interrupted:
                if self._get(download.id).state == "cancelled":
                    self._clear(download.plan)
            except LlmchatError as error:
                self._end(download.id, replace(self._get(download.id), state="failed", error=error))
            else:
                self._end(download.id, replace(self._get(download.id), state="done", model=model))
            finally:
                with self._lock:
                    self._stops.pop(download.id, None)

    def _end(self, identity: int, ended: Download) -> None:
        """An end that nobody has called for meanwhile; what is done is done in any case."""
        if ended.state == "done" or self._get(identity).state == "running":
            self._put(ended)

    def _progress_of(self, identity: int) -> Callable[[Progress], None]:
        def note(progress: Progress) -> None:
            now = self._get(identity)
            if now.state == "running":
                self._put(replace(now, progress=progress))

        return note


def _same(one: DownloadPlan, other: DownloadPlan) -> bool:
    return (one.repo, one.commit, {f.path for f in one.files}) == (
        other.repo,
        other.commit,
        {f.path for f in other.files},
    )
