"""The seam inside a worker process: what the process shell asks of whatever computes.

The shell (`shell/`) owns the socket, the lock, connections and keep-alive, and knows no
llama.cpp; a backend owns the one inference thread and knows no sockets. Three exist: for models
that write (`worker/loop.py`), for models that make vectors (`worker/vectors/backend.py`), and the
scripted one (`scripted/backend.py`). One contract suite runs over real and scripted ones.
"""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from msgspec import Struct

from llmchat.engine.protocol import (
    Count,
    Embed,
    Event,
    Facts,
    Generate,
    Inspect,
    Loading,
    Plan,
    Render,
    Rerank,
    Tokenize,
)
from llmchat.values import ModelFile, Wants

Work = Generate | Render | Count | Tokenize | Embed | Rerank | Inspect
"""What a backend answers; the shell answers everything else itself."""

Emit = Callable[[Event], None]
"""Hands an event to the shell for the request's connection. Thread-safe, never blocks."""


class Verdict(Enum):
    """What the client who waits for a load says to its plan."""

    GO = "go"
    AGAIN = "again"
    """Others have made room: wait until what is free stands still, and plan anew."""
    STOP = "stop"


class BackendStatus(Struct, frozen=True, kw_only=True):
    """What `WorkerStatus` needs to know of the inside; read without waiting for the loop."""

    step: int = 0
    """Turns of the loop so far: a client can see it move."""
    n_ctx_used: int = 0
    sequences: int = 0
    parked: int = 0
    """Idle sequences whose state lies outside the pool, in RAM."""
    parked_bytes: int = 0


class Backend(Protocol):
    """What computes. `load` and `run` are called on the inference thread, in that order."""

    def load(
        self,
        model: ModelFile,
        wants: Wants,
        *,
        progress: Callable[[Loading], None],
        proceed: Callable[[Plan], Verdict],
    ) -> Facts:
        """Load the model. `proceed` is asked before memory is taken, once for each plan.

        Raises:
            EngineError: it cannot be loaded; `last_lines` of the log go into LoadFailed.
        """
        ...

    def run(self) -> None:
        """The loop: take, plan, decode, sample, emit; returns after `stop`, and frees the model."""
        ...

    def submit(self, work: Work, emit: Emit) -> Callable[[], None]:
        """Queue a request, from any thread. Returns the function that cancels it (any thread).

        Every request ends: a Generate with `n` Finished or one Failed, the others with their
        answer or Failed. A cancelled Generate ends with Finished(reason="cancelled").
        """
        ...

    def stop(self) -> None:
        """Make `run` return soon, from any thread; also ends a load that is under way."""
        ...

    def status(self) -> BackendStatus:
        """Cheap, from any thread."""
        ...

    def last_lines(self) -> tuple[str, ...]:
        """The engine's own last log lines, for error reports."""
        ...
