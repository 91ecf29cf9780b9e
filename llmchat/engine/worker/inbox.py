"""A request's way to the inference thread, and the loop that it meets there.

Owns the queue that any thread fills, cancelling a request wherever it is, what a failure is called
on the wire, and that nobody who waits is forgotten when the worker leaves. One for each backend,
whatever its model makes. Refuses what a request means (`accept`) and computing (`Turns`).
"""

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from llmchat.engine.backend import Emit, Work
from llmchat.engine.protocol import Failed
from llmchat.engine.worker.capi import CApiError
from llmchat.errors import GenerationFailed, LlmchatError
from llmchat.text import say

CODES: Final = {
    "engine.template_failed": "template_failed",
    "engine.template_refused": "template_failed",
    "engine.context_exceeded": "context_exceeded",
    "engine.text_too_long": "context_exceeded",
    "engine.bad_grammar": "bad_grammar",
    "engine.unsupported": "unsupported",
    "engine.no_vectors": "unsupported",
    "engine.no_reranker": "unsupported",
    "engine.reranker_only": "unsupported",
    "engine.vectors_only": "unsupported",
}
"""`Failed.code` of an error; every other one is a bad request."""


class Turns(Protocol):
    """What is computed, one step at a time. Called on the inference thread."""

    @property
    def busy(self) -> bool:
        """Something can be done now; what comes from elsewhere wakes the inbox."""

    def turn(self) -> None:
        """One step."""

    def fail_everything(self, message: str) -> None:
        """A step broke: every request in it fails."""

    def end_everything(self) -> None:
        """The worker leaves: every request ends."""


class Request:
    """A request wherever it is: in the inbox, set aside, or computed."""

    def __init__(self, work: Work, emit: Emit) -> None:
        self.work = work
        self.emit = emit
        self._cancelled = False
        self._end: Callable[[], None] | None = None

    def cancel(self) -> None:
        """End it soon; any thread, any number of times."""
        self._cancelled = True
        if self._end is not None:
            self._end()

    def bind(self, end: Callable[[], None]) -> None:
        """It is computed from now on, and `end` cancels that, from any thread."""
        self._end = end
        if self._cancelled:  # before there was anything to end
            end()

    def fail(self, code: str, message: str) -> None:
        """Its only answer."""
        self.emit(Failed(id=self.work.id, code=code, message=message))

    def refuse(self, error: LlmchatError) -> None:
        """The same, with a sentence and what to do next."""
        self.emit(
            Failed(
                id=self.work.id,
                code=CODES.get(error.key, "bad_request"),
                message=error.sentence,
                hint=error.hint or "",
                recoverable=error.recoverable,
            )
        )


class Inbox:
    """`submit` and `stop` are for any thread, `serve` is the inference thread's."""

    def __init__(self) -> None:
        self.stopping = False
        self.interrupt: Callable[[], None] = lambda: None
        """Ends a step that is under way, once there is something that takes steps."""
        self._waiting: deque[Request] = deque()
        self._woken = False
        self._wake = threading.Condition()

    @property
    def calls(self) -> bool:
        """Somebody waits to be accepted, or it is time to stop: look around soon."""
        return bool(self._waiting) or self.stopping

    def submit(self, work: Work, emit: Emit) -> Callable[[], None]:
        """Queue a request; the function returned cancels it."""
        request = Request(work, emit)
        self._put(request)
        return request.cancel

    def set_aside(self, request: Request) -> Callable[[], None]:
        """While it is accepted: something else comes first, on another thread.

        The function returned is called from there, once, and the request comes again.
        """
        return partial(self._put, request)

    def _put(self, request: Request) -> None:
        with self._wake:
            if not self.stopping:
                self._waiting.append(request)
                self._wake.notify()
                return
        request.fail("busy", say("engine.leaving"))

    def wake(self) -> None:
        """From any thread: there may be a turn to take."""
        with self._wake:
            self._woken = True
            self._wake.notify()

    def stop(self) -> None:
        """Make `serve` return soon."""
        with self._wake:
            self.stopping = True
            self._wake.notify()
        self.interrupt()

    def serve(
        self,
        accept: Callable[[Request], None],
        turns: Turns,
        *,
        between: Callable[[], None] = lambda: None,
        rest: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Take, compute, sleep, until `stop`; then every request ends, those that wait as `busy`.

        `accept` answers a request, hands it to `turns` or sets it aside; what it raises is the
        request's answer. `between` is called after each step (each token: it must cost nothing),
        `rest` says how many seconds to sleep at most when nothing is to be done.
        """
        try:
            while not self.stopping:
                if self._waiting:
                    self._take(accept)
                if turns.busy:
                    try:
                        turns.turn()
                    except MemoryError:
                        _note_no_memory()
                        turns.fail_everything(say("engine.no_memory"))
                    except Exception:  # noqa: BLE001  (the worker loop: a broken step is not the end)
                        traceback.print_exc(file=sys.stderr)
                        turns.fail_everything(say("engine.internal"))
                else:
                    self._sleep(rest())
                between()
        finally:
            turns.end_everything()
            self._close()

    def _take(self, accept: Callable[[Request], None]) -> None:
        while self._waiting and not self.stopping:
            request = self._waiting.popleft()
            try:
                accept(request)
            except LlmchatError as error:
                request.refuse(error)
            except CApiError as error:
                traceback.print_exc(file=sys.stderr)
                request.fail("bad_request", str(error))
            except MemoryError:
                _note_no_memory()
                request.refuse(GenerationFailed("engine.no_memory", recoverable=True))
            except Exception:  # noqa: BLE001  (the worker loop: one request's failure is its own)
                traceback.print_exc(file=sys.stderr)
                request.fail("internal", say("engine.internal"))

    def _sleep(self, seconds: float | None) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self.stopping or self._woken, seconds)
            self._woken = False

    def _close(self) -> None:
        with self._wake:
            self.stopping = True
            left = list(self._waiting)
            self._waiting.clear()
        for request in left:
            request.fail("busy", say("engine.leaving"))


def _note_no_memory() -> None:
    """A line for the log: a stack would take memory of its own."""
    sys.stderr.write("llmchat: MemoryError: a request was given up\n")
    sys.stderr.flush()
