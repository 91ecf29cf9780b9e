"""The inference thread: waits for its turn, loads, and runs the backend until it is stopped.

Owns the machine-wide load lock, held from the plan to the end of the load, so that no two workers
of this user, whatever their LLMCHAT_HOME, measure the same free memory. Tells the shell what
happens through `post`, which runs a function on the shell's thread; touches no socket.
"""

import fcntl
import gc
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from llmchat.engine.assignment import Assignment
from llmchat.engine.backend import Backend, Verdict
from llmchat.engine.protocol import Facts, LoadFailed, Loading, Plan
from llmchat.errors import ConfigError, EngineError
from llmchat.paths import ensure_private

LOAD_LOCK = "load.lock"
_RETRY = 0.05


class Listener(Protocol):
    """What the inference thread reports. Called on the shell's thread."""

    def on_plan(self, plan: Plan) -> None:
        """The backend knows what loading takes."""

    def on_loading(self, loading: Loading) -> None:
        """The load went on."""

    def on_ready(self, facts: Facts) -> None:
        """The model is loaded."""

    def on_load_failed(self, failure: LoadFailed) -> None:
        """The model cannot be loaded."""

    def on_ended(self, clean: bool) -> None:
        """The thread is about to end; not `clean`: by an exception, which the log has."""


class Inference:
    """One thread around a backend."""

    def __init__(
        self,
        backend: Backend,
        assignment: Assignment,
        listener: Listener,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._backend = backend
        self._assignment = assignment
        self._listener = listener
        self._post = post
        self._stopping = threading.Event()
        self._answers: queue.SimpleQueue[Verdict] = queue.SimpleQueue()
        self._plans = 0
        # A daemon: a hung llama.cpp must not keep the process from leaving.
        self._thread = threading.Thread(target=self._main, name="inference", daemon=True)
        self.started = False

    def start(self) -> None:
        """Begin to load."""
        self.started = True
        self._thread.start()

    def proceed(self, verdict: Verdict) -> None:
        """Answer the plan; the shell sees to it that each has one answer."""
        self._answers.put(verdict)

    def stop(self) -> None:
        """Make the thread end soon."""
        self._stopping.set()
        self.proceed(Verdict.STOP)
        self._backend.stop()

    def _main(self) -> None:
        clean = False
        try:
            if self._load():
                self._backend.run()
            clean = True
        except Exception:  # noqa: BLE001 - the worker loop: whatever it was, clients must hear of it
            traceback.print_exc()
            sys.stderr.flush()
        finally:  # also when there is no memory left to print with
            self._post(lambda: self._listener.on_ended(clean))

    def _load(self) -> bool:
        with self._turn_to_load() as mine:
            if not mine:
                return False
            try:
                facts = self._backend.load(
                    self._assignment.model,
                    self._assignment.wants,
                    progress=self._progress,
                    proceed=self._ask,
                )
            except EngineError as error:
                failure = LoadFailed(
                    code=error.key, message=error.sentence, last_lines=self._backend.last_lines()
                )
                self._post(lambda: self._listener.on_load_failed(failure))
                return False
        # What a load leaves stays to the end: the collector need not walk it beside every reply.
        gc.freeze()
        if self._stopping.is_set():
            # The backend may have heard `stop` before its load began; it frees in `run`.
            self._backend.stop()
        self._post(lambda: self._listener.on_ready(facts))
        return True

    @contextmanager
    def _turn_to_load(self) -> Iterator[bool]:
        path = self._lock_folder() / LOAD_LOCK
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            yield self._lock(descriptor)
        finally:
            os.close(descriptor)

    def _lock_folder(self) -> Path:
        try:
            return ensure_private(Path(self._assignment.machine))
        except ConfigError as error:  # somebody else's folder: better one home's lock than none
            sys.stderr.write(f"llmchat: {error}\n")
            return Path(self._assignment.run)

    def _lock(self, descriptor: int) -> bool:
        while not self._stopping.is_set():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Not a blocking flock: it could not be stopped.
                self._stopping.wait(_RETRY)
            else:
                return True
        return False

    def _progress(self, loading: Loading) -> None:
        self._post(lambda: self._listener.on_loading(loading))

    def _ask(self, plan: Plan) -> Verdict:
        self._plans += 1
        numbered = replace(plan, number=self._plans)
        self._post(lambda: self._listener.on_plan(numbered))
        try:
            verdict = self._answers.get(timeout=self._assignment.limits.proceed)
        except queue.Empty:
            return Verdict.STOP
        return Verdict.STOP if self._stopping.is_set() else verdict
