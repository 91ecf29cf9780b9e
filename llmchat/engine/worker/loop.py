"""The backend of a model that writes: one inference thread over one llama.cpp model.

Owns the load, what is made of each request, and constraints that are read elsewhere meanwhile.
Refuses the queue and the loop (`inbox.py`) and everything that a part of its own does: replies
(`generation.py`), small answers (`answers.py`), placement (`fit.py`), prompts (`prompts.py`).
"""

import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from llmchat.engine.backend import BackendStatus, Emit
from llmchat.engine.protocol import Facts, Generate, Messages
from llmchat.engine.worker import answers, prompts
from llmchat.engine.worker.admission import Admission
from llmchat.engine.worker.constraint.opening import place_rules
from llmchat.engine.worker.constraint.preparing import Prepared, Preparing
from llmchat.engine.worker.generation import Generation
from llmchat.engine.worker.inbox import Request
from llmchat.engine.worker.loading import Audience
from llmchat.engine.worker.opening import Opened, open_everything
from llmchat.engine.worker.reply import Task
from llmchat.engine.worker.sampling import merge, validate
from llmchat.engine.worker.saving import Saver, open_saver
from llmchat.engine.worker.threaded import ThreadedBackend
from llmchat.errors import EngineError, GenerationFailed, LlmchatError
from llmchat.values import ModelFile, Wants


class LlamaBackend(ThreadedBackend):
    """Chat, and texts that go on."""

    def __init__(self, kv: str = "") -> None:
        """`kv`: the folder of saved states; empty: none are saved."""
        super().__init__()
        self._kv = kv
        self._opened: Opened | None = None
        self._generation: Generation | None = None
        self._saver: Saver | None = None
        self._arrivals = 0
        self._preparing: Preparing | None = None
        self._prepared: dict[Request, Prepared] = {}
        """What came of the constraints of requests that come again."""

    def status(self) -> BackendStatus:
        """Read without waiting for the loop."""
        generation = self._generation
        if generation is None:
            return BackendStatus()
        parked, parked_bytes = generation.table.parked()
        return BackendStatus(
            step=generation.steps,
            n_ctx_used=generation.table.pool.used,
            sequences=sum(bool(slot.tokens) for slot in generation.table.slots),
            parked=parked,
            parked_bytes=parked_bytes,
        )

    def _open(self, model: ModelFile, wants: Wants, audience: Audience) -> Facts:
        self._opened = opened = open_everything(model, wants, self._log, audience)
        self._inbox.interrupt = opened.loaded.context.abort
        admission = Admission(
            opened.loaded.context,
            opened.loaded.vocab,
            opened.table,
            n_ctx=opened.facts.n_ctx,
            model_sampling=opened.facts.sampling,
            make_parser=lambda task: opened.new_parser(task.request.prompt, task.read.segments),
            wake=self._inbox.wake,
        )
        self._generation = generation = Generation(
            opened.loaded.context,
            admission,
            opened.adapters,
            n_threads=opened.facts.n_threads,
            markers=opened.markers,
            called=lambda: self._inbox.calls,
        )
        if self._kv:
            self._saver = _saver(Path(self._kv), opened, lambda: generation.pace)
        return opened.facts

    def run(self) -> None:
        """Answer requests until `stop`; then free the model."""
        opened, generation = self._opened, self._generation
        if opened is None or generation is None:
            raise EngineError("engine.model_unreadable", reason="run before load")
        accept = partial(self._accept, opened, generation)
        try:
            self._inbox.serve(accept, generation, between=self._save, rest=self._rest)
        finally:
            self._leave(opened)

    def _rest(self) -> float | None:
        return self._saver.wait() if self._saver is not None else None

    def _save(self, do: Callable[[Saver], None] = Saver.look) -> None:
        try:
            if self._saver is not None:
                do(self._saver)
        except Exception:  # noqa: BLE001  (the worker loop: a cache must end nobody's reply)
            traceback.print_exc(file=sys.stderr)
            self._saver = None

    def _accept(self, opened: Opened, generation: Generation, request: Request) -> None:
        work = request.work
        if not isinstance(work, Generate):
            request.emit(answers.answer(work, opened))
            return
        prepared = self._prepared.pop(request, None)
        if work.constraint is not None and prepared is None:
            self._prepare(opened, request, work)
            return
        self._arrivals += 1
        task = prepare(work, request.emit, self._arrivals, opened, prepared)
        generation.add(task)
        request.bind(partial(generation.cancel, task))

    def _prepare(self, opened: Opened, request: Request, work: Generate) -> None:
        """Have its constraint read on another thread; then the request comes again."""
        assert work.constraint is not None
        check_n(work, opened)
        bring_back = self._inbox.set_aside(request)

        def ready(prepared: Prepared) -> None:
            self._prepared[request] = prepared
            bring_back()

        self._preparing = self._preparing or Preparing(opened.loaded.vocab)
        self._preparing.start(work.constraint, work.n, ready)

    def _leave(self, opened: Opened) -> None:
        may_free = self._preparing is None or self._preparing.close()
        while self._prepared:  # of requests that never run
            _, prepared = self._prepared.popitem()
            for rule in prepared if isinstance(prepared, list) else ():
                rule.close()
        self._save(Saver.leave)
        self._opened = self._generation = None
        if may_free:
            opened.loaded.close()


def _saver(path: Path, opened: Opened, pace: Callable[[], float]) -> Saver | None:
    """None: its thread cannot be had, and what is read now will not be known tomorrow."""
    try:
        return open_saver(path, opened, pace)
    except RuntimeError as error:  # threading's word for a system without room for a stack
        sys.stderr.write(f"llmchat: KV states are not saved: {error}\n")
        return None


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


def check_n(request: Generate, opened: Opened) -> None:
    """Refuse more replies than the model has sequences.

    Raises:
        GenerationFailed: with how many there are.
    """
    most = opened.facts.n_seq_max
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
