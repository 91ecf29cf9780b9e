"""A backend on a thread, and requests that are waited for: what a shell does, without a shell."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmchat.engine.backend import Verdict
from llmchat.engine.protocol import Delta, Event, Failed, Finished, Generate, Plan
from llmchat.engine.worker.loop import LlamaBackend
from llmchat.errors import LlmchatError
from llmchat.values import ModelFile, Wants

DEADLINE = 100.0


class Asked:
    """One request and what came back."""

    def __init__(self, n: int = 1) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []
        self._changed = threading.Condition()
        self._open = n
        self.cancel: Callable[[], None] = lambda: None

    def emit(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self.times.append(time.perf_counter())
            if isinstance(event, Finished):
                self._open -= 1
            elif not isinstance(event, Delta) and type(event).__name__ not in (
                "Queued",
                "PromptProgress",
            ):
                self._open = 0
            self._changed.notify_all()

    def until(self, condition: Callable[[list[Event]], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.events), DEADLINE), self.events

    def wait(self) -> "Asked":
        with self._changed:
            assert self._changed.wait_for(lambda: self._open <= 0, DEADLINE), self.events
        return self

    def text(self, choice: int = 0, kind: str = "text") -> str:
        return "".join(
            event.text
            for event in self.events
            if isinstance(event, Delta) and event.choice == choice and event.kind == kind
        )

    def finished(self, choice: int = 0) -> Finished:
        return next(
            event for event in self.events if isinstance(event, Finished) and event.choice == choice
        )

    def failed(self) -> Failed:
        event = self.events[-1]
        assert isinstance(event, Failed), event
        return event


class Driver:
    """Loads a model and runs the loop on one thread, as the shell does."""

    def __init__(
        self,
        path: Path,
        wants: Wants,
        *,
        kv: Path | None = None,
        backend: Any = None,
    ) -> None:
        """`kv`: a folder for saved states; `backend`: another than the one that writes."""
        self.backend = backend or LlamaBackend(str(kv) if kv is not None else "")
        self.plan: Plan | None = None
        self.failures: list[LlmchatError] = []
        self._ready = threading.Event()
        self._ids = 0
        self._thread = threading.Thread(target=self._main, args=(path, wants))
        self._thread.start()
        assert self._ready.wait(DEADLINE)
        if self.failures:
            self._thread.join()
            raise self.failures[0]

    def _main(self, path: Path, wants: Wants) -> None:
        model = ModelFile(name="test", path=str(path), identity="0" * 64, size=1)
        try:
            self.facts = self.backend.load(
                model, wants, progress=lambda _loading: None, proceed=self._proceed
            )
        except LlmchatError as error:
            self.failures.append(error)
            return
        finally:
            self._ready.set()
        self.backend.run()

    def _proceed(self, plan: Plan) -> Verdict:
        self.plan = plan
        return Verdict.GO

    def ask(self, request: Generate) -> Asked:
        asked = Asked(max(1, request.n))
        asked.cancel = self.backend.submit(request, asked.emit)
        return asked

    def close(self) -> None:
        self.backend.stop()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
