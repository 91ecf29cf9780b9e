"""A worker that does what a script says: `python -m llmchat.engine.scripted`.

Owns a Backend for tests of everything above the engine, through the real shell, socket and process:
it answers without a model, slowly or at once, fails, hangs, and dies in every way a worker can
(script.py has the words). Without a script it quotes the last user message in a short, always
equal Markdown text at 200 tokens a second. Refuses llama_cpp, and all but the queue and the load:
what is answered is `reading.py`, `vectors.py` and `writing.py`.
"""

import queue
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmchat.engine.assignment import Assignment
from llmchat.engine.backend import BackendStatus, Emit, Verdict, Work
from llmchat.engine.protocol import (
    Count,
    Embed,
    Facts,
    Failed,
    Generate,
    Loading,
    Placement,
    Plan,
    Render,
    Rerank,
    TemplateFacts,
    Tokenize,
)
from llmchat.engine.scripted import reading, vectors
from llmchat.engine.scripted.dying import Fate
from llmchat.engine.scripted.job import Job
from llmchat.engine.scripted.placing import MIB, place
from llmchat.engine.scripted.script import Script, ScriptError, for_message, parse
from llmchat.engine.scripted.writing import Writer
from llmchat.errors import EngineError
from llmchat.values import ModelFile, Wants

if TYPE_CHECKING:
    from llmchat.engine.shell.serving import Shell


class ScriptedBackend:
    """Follows a script, one request after another."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._pending = 0
        self._step = 0
        self._used = 0
        self._n_ctx = script.n_ctx
        self.shell: Shell | None = None

    # Backend

    def load(
        self,
        model: ModelFile,
        wants: Wants,
        *,
        progress: Callable[[Loading], None],
        proceed: Callable[[Plan], Verdict],
    ) -> Facts:
        """Pretend to load."""
        script = self._script
        placement = place(script, proceed, self._stopping.wait)
        for part in range(11):
            progress(Loading(fraction=part / 10))
            if part == 5:
                Fate(script, self.shell).reach("load")
            if self._stopping.wait(script.load / 10):
                raise EngineError("engine.load_given_up")
        if script.load_fail:
            print(script.message, file=sys.stderr, flush=True)  # noqa: T201 - the worker's log
            raise EngineError("engine.failed", reason=script.message)
        self._n_ctx = wants.n_ctx or script.n_ctx
        return _facts(model, wants, placement, n_ctx=self._n_ctx, n_ctx_train=script.n_ctx)

    def run(self) -> None:
        """Answer requests in the order they came."""
        while not self._stopping.is_set():
            job = self._jobs.get()
            if job is None:
                continue
            self._count_step()
            try:
                self._answer(job)
            finally:
                self._pending -= 1
        while not self._jobs.empty():
            left = self._jobs.get()
            if left is not None:
                left.end()

    def submit(self, work: Work, emit: Emit) -> Callable[[], None]:
        """Queue a request."""
        job = Job(work, emit, self._stopping)
        self._pending += 1
        self._jobs.put(job)
        return job.cancel

    def stop(self) -> None:
        """End what runs, and `run`."""
        self._stopping.set()
        self._jobs.put(None)

    def status(self) -> BackendStatus:
        """How busy it is."""
        return BackendStatus(
            step=self._step,
            n_ctx_used=self._used,
            sequences=int(self._pending > 0),
        )

    def last_lines(self) -> tuple[str, ...]:
        """What a real engine would have logged."""
        return (self._script.message,)

    # answering

    def _answer(self, job: Job) -> None:
        work = job.work
        if isinstance(work, Generate):
            try:
                self._write(job, work)
            except ScriptError as error:
                job.emit(Failed(id=work.id, code="bad_request", message=str(error)))
        elif isinstance(work, Count | Render | Tokenize):
            job.emit(reading.answer(work))
        elif isinstance(work, Embed | Rerank):
            job.emit(vectors.answer(work))
        else:
            job.emit(Failed(id=work.id, code="unsupported", message="Not in this script."))

    def _write(self, job: Job, work: Generate) -> None:
        words, script = for_message(reading.last_user(work.prompt), self._script)
        fate = Fate(script, self.shell)
        writer = Writer(
            job, work, words, script, fate=fate, n_ctx=self._n_ctx, on_token=self._count_step
        )
        if writer.run():
            self._used = writer.prompt
            fate.reach("idle")

    def _count_step(self) -> None:
        self._step += 1


def _facts(
    model: ModelFile, wants: Wants, placement: Placement, *, n_ctx: int, n_ctx_train: int
) -> Facts:
    """What a worker with a model would say of it."""
    return Facts(
        model=model.name,
        identity=model.identity,
        architecture="scripted",
        description="scripted 0B",
        n_ctx=n_ctx,
        n_ctx_train=max(n_ctx, n_ctx_train),
        pool=n_ctx,
        n_seq_max=1,
        n_vocab=reading.N_VOCAB,
        n_embd=vectors.N_EMBD,
        vocab=reading.VOCAB,
        capabilities=("chat", "thinking", "tools", "embedding", "rerank"),
        template=TemplateFacts(digest="scripted", thinking="toggle", tools=True),
        placement=placement,
        memory={"model": 48 * MIB, "context": 12 * MIB, "compute": 4 * MIB},
        build="scripted",
        n_threads=wants.n_threads or 1,
    )


def make_backend(assignment: Assignment) -> ScriptedBackend:
    """The backend for an assignment's script."""
    return ScriptedBackend(parse(assignment.script))
