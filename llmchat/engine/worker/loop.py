"""The real backend: one inference thread over one llama.cpp model.

Owns the queue between the shell's threads and the inference thread, the load, and the loop. Refuses
sockets (the shell's) and everything that a part of its own does: replies (`generation.py`), small
answers (`answers.py`), placement (`fit.py`), prompts (`prompts.py`).
"""

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path

from llmchat.engine.backend import BackendStatus, Emit, Verdict, Work
from llmchat.engine.protocol import (
    Facts,
    Failed,
    Generate,
    Loading,
    Messages,
    Plan,
)
from llmchat.engine.worker import answers, prompts
from llmchat.engine.worker.capi import CApiError
from llmchat.engine.worker.constraint.opening import place_rules
from llmchat.engine.worker.constraint.preparing import Prepared, Preparing
from llmchat.engine.worker.generation import Generation
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.opening import Opened, open_everything
from llmchat.engine.worker.reply import Parser, PlainParser, Task
from llmchat.engine.worker.sampling import merge, validate
from llmchat.engine.worker.saving import Saver, open_saver
from llmchat.errors import EngineError, GenerationFailed, LlmchatError
from llmchat.text import say
from llmchat.values import ModelFile, Wants

_CODES = {
    "engine.template_failed": "template_failed",
    "engine.template_refused": "template_failed",
    "engine.context_exceeded": "context_exceeded",
    "engine.bad_grammar": "bad_grammar",
    "engine.unsupported": "unsupported",
    "engine.no_vectors": "unsupported",
    "engine.no_reranker": "unsupported",
}


class LlamaBackend:
    """Implements `Backend`. `load` and `run` on the inference thread, the rest from any."""

    def __init__(self, kv: str = "") -> None:
        """`kv`: the folder of saved states; empty: none are saved."""
        self._kv = kv
        self._saver: Saver | None = None
        self._log = LogRing()
        self._log.install()
        self._inbox: deque[tuple[Work, Emit, _Handle]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._arrivals = 0
        self._opened: Opened | None = None
        self._generation: Generation | None = None
        self._small = 0
        self._preparing: Preparing | None = None
        self._unprepared = 0
        """Requests whose constraint is being read."""

    # from any thread

    def submit(self, work: Work, emit: Emit) -> Callable[[], None]:
        """Queue a request; the function returned cancels it."""
        handle = _Handle()
        with self._wake:
            if self._stopping:
                emit(Failed(id=work.id, code="busy", message=say("engine.leaving")))
                return handle.cancel
            self._inbox.append((work, emit, handle))
            self._wake.notify()
        return handle.cancel

    def stop(self) -> None:
        """Make `run` return soon, or the load fail."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._opened is not None:
            self._opened.loaded.context.abort()

    def status(self) -> BackendStatus:
        """Read without waiting for the loop."""
        generation = self._generation
        if generation is None:
            return BackendStatus(busy=bool(self._inbox))
        parked, parked_bytes = generation.table.parked()
        return BackendStatus(
            busy=generation.busy or bool(self._inbox) or self._small + self._unprepared > 0,
            step=generation.steps,
            n_ctx_used=generation.table.pool.used,
            sequences=sum(bool(slot.tokens) for slot in generation.table.slots),
            parked=parked,
            parked_bytes=parked_bytes,
        )

    def last_lines(self) -> tuple[str, ...]:
        """llama.cpp's last words."""
        return self._log.last()

    # on the inference thread

    def load(
        self,
        model: ModelFile,
        wants: Wants,
        *,
        progress: Callable[[Loading], None],
        proceed: Callable[[Plan], Verdict],
    ) -> Facts:
        """Load the model.

        Raises:
            EngineError: it cannot be loaded, or `proceed` or `stop` said no.
        """
        opened = open_everything(
            model,
            wants,
            self._log,
            progress=progress,
            proceed=proceed,
            stopping=lambda: self._stopping,
        )
        self._opened = opened
        self._preparing = Preparing(opened.loaded.vocab)
        self._generation = generation = Generation(
            opened.loaded.context,
            opened.loaded.vocab,
            opened.table,
            n_ctx=opened.facts.n_ctx,
            model_sampling=opened.facts.sampling,
            n_threads=opened.facts.n_threads,
            make_parser=self._make_parser,
            markers=opened.markers,
            adapters=opened.adapters,
        )
        if self._kv:
            self._saver = open_saver(Path(self._kv), opened, lambda: generation.pace)
        return opened.facts

    def _make_parser(self, task: Task) -> Parser:
        if self._opened is None:
            return PlainParser()
        return self._opened.new_parser(task.request.prompt, task.read.segments)

    def run(self) -> None:
        """Take, plan, decode, sample, emit, until `stop`; then free the model."""
        opened, generation = self._opened, self._generation
        if opened is None or generation is None:
            raise EngineError("engine.model_unreadable", reason="run before load")
        try:
            while not self._stopping:
                self._take_requests(opened, generation)
                if generation.busy:
                    self._turn(generation)
                else:
                    self._sleep()
                self._save(Saver.look)
        finally:
            self._leave(opened, generation)

    def _turn(self, generation: Generation) -> None:
        try:
            generation.turn()
        except Exception:  # noqa: BLE001  (the worker loop: one broken step must not end the rest)
            traceback.print_exc(file=sys.stderr)
            generation.fail_everything(say("engine.internal"))

    def _save(self, do: Callable[[Saver], None]) -> None:
        try:
            if self._saver is not None:
                do(self._saver)
        except Exception:  # noqa: BLE001  (the worker loop: a cache must end nobody's reply)
            traceback.print_exc(file=sys.stderr)
            self._saver = None

    def _sleep(self) -> None:
        seconds = self._saver.wait() if self._saver is not None else None
        with self._wake:
            self._wake.wait_for(lambda: self._inbox or self._stopping, seconds)

    def _take_requests(self, opened: Opened, generation: Generation) -> None:
        while self._inbox and not self._stopping:
            self._small += 1
            work, emit, handle = self._inbox.popleft()
            try:
                self._accept(opened, generation, work, emit, handle)
            except LlmchatError as error:
                code = _CODES.get(error.key, "bad_request")
                emit(
                    Failed(
                        id=work.id, code=code, message=error.sentence, hint=error.hint or "",
                        recoverable=error.recoverable,
                    )
                )  # fmt: skip
            except CApiError as error:
                traceback.print_exc(file=sys.stderr)
                emit(Failed(id=work.id, code="bad_request", message=str(error)))
            except Exception:  # noqa: BLE001  (the worker loop)
                traceback.print_exc(file=sys.stderr)
                emit(Failed(id=work.id, code="internal", message=say("engine.internal")))
            finally:
                self._small -= 1

    def _accept(
        self,
        opened: Opened,
        generation: Generation,
        work: Work,
        emit: Emit,
        handle: "_Handle",
    ) -> None:
        if not isinstance(work, Generate):
            emit(answers.answer(work, opened))
            return
        if work.constraint is not None and handle.prepared is None:
            self._prepare(work, emit, handle)
            return
        self._arrivals += 1
        task = prepare(work, emit, self._arrivals, opened, handle.prepared)
        generation.add(task)
        handle.bind(generation, task)

    def _prepare(self, work: Generate, emit: Emit, handle: "_Handle") -> None:
        """Have its constraint read on another thread; then the request comes again."""
        assert self._preparing is not None
        assert work.constraint is not None

        def ready(prepared: Prepared) -> None:
            handle.prepared = prepared
            with self._wake:
                self._unprepared -= 1
                self._inbox.append((work, emit, handle))
                self._wake.notify()

        check_n(work, self._opened)
        with self._wake:
            self._unprepared += 1
        self._preparing.start(work.constraint, work.n, ready)

    def _leave(self, opened: Opened, generation: Generation) -> None:
        generation.end_everything()
        may_free = self._preparing is None or self._preparing.close()
        with self._wake:
            left = list(self._inbox)
            self._inbox.clear()
        for work, emit, handle in left:
            handle.discard()
            emit(Failed(id=work.id, code="busy", message=say("engine.leaving")))
        self._save(Saver.leave)
        self._opened = self._generation = None
        if may_free:
            opened.loaded.close()


class _Handle:
    """Cancels a request wherever it is: still in the inbox, in line, or running."""

    def __init__(self) -> None:
        self._generation: Generation | None = None
        self._task: Task | None = None
        self._cancelled = False
        self.prepared: Prepared | None = None
        """What came of its constraint."""

    def discard(self) -> None:
        """It is never run: free what was prepared."""
        if isinstance(self.prepared, list):
            for rule in self.prepared:
                rule.close()

    def cancel(self) -> None:
        """End the request soon; any thread, any number of times."""
        self._cancelled = True
        if self._generation is not None and self._task is not None:
            self._generation.cancel(self._task)

    def bind(self, generation: Generation, task: Task) -> None:
        """The request became a task."""
        self._task, self._generation = task, generation
        if self._cancelled:
            generation.cancel(task)


def prepare(
    request: Generate, emit: Emit, arrival: int, opened: Opened, prepared: Prepared | None = None
) -> Task:
    """Check a request and read its prompt. `prepared` is what came of its constraint.

    Raises:
        GenerationFailed: what is asked cannot be done; nothing was computed yet.
    """
    if isinstance(prepared, GenerationFailed):
        raise prepared
    rules = prepared or []
    try:
        task = _read_request(request, emit, arrival, opened)
    except LlmchatError:
        for rule in rules:
            rule.close()
        raise
    task.rules = place_rules(
        rules, request, task.forced, task.read.segments,
        vocab=opened.loaded.vocab, template=opened.template,
    )  # fmt: skip
    return task


def check_n(request: Generate, opened: Opened | None) -> None:
    """Refuse more replies than the model has sequences.

    Raises:
        GenerationFailed: with how many there are.
    """
    most = opened.facts.n_seq_max if opened is not None else 1
    if not 1 <= request.n <= most:
        raise GenerationFailed("engine.bad_n", n=request.n, most=most)


def _read_request(request: Generate, emit: Emit, arrival: int, opened: Opened) -> Task:
    started = time.perf_counter()
    vocab, facts = opened.loaded.vocab, opened.facts
    validate(merge(request.sampling, facts.sampling), vocab.size)
    check_n(request, opened)
    read = prompts.read(request.prompt, vocab, opened.template)
    stops = opened.template.stops if isinstance(request.prompt, Messages) else ()
    task = Task(request, emit, arrival, read, stop=(*request.stop, *stops))
    task.arrived = started
    task.forced = prompts.forced_tokens(request.forced, vocab)
    task.mixture = opened.adapters.mixture(request.lora, request.control_vectors)
    if not task.prompt:
        raise GenerationFailed("engine.empty_prompt")
    if len(task.prompt) >= facts.n_ctx:
        raise GenerationFailed(
            "engine.context_exceeded", tokens=len(task.prompt), limit=facts.n_ctx
        )
    return task
