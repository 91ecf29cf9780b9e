"""The backend of a worker whose model makes vectors: one inference thread over one context.

Owns the queue between the shell's threads and the inference thread, and the small answers that such
a model can give (tokens of a text). Refuses writing: Generate is answered with a sentence.
"""

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable

from llmchat.engine.backend import BackendStatus, Emit, Verdict, Work
from llmchat.engine.protocol import (
    Count,
    Counted,
    Embed,
    Event,
    Facts,
    Failed,
    Loading,
    Plan,
    RawText,
    Rerank,
    Tokenize,
    Tokenized,
)
from llmchat.engine.worker.capi import CApiError
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.vectors.computing import Job, Vectors
from llmchat.engine.worker.vectors.opening import OpenedVectors, open_vectors
from llmchat.engine.worker.vectors.texts import Reader
from llmchat.errors import EngineError, GenerationFailed, LlmchatError
from llmchat.text import say
from llmchat.values import ModelFile, Wants

_CODES = {"engine.text_too_long": "context_exceeded", "engine.bad_texts": "bad_request"}


class VectorBackend:
    """Implements `Backend`. `load` and `run` on the inference thread, the rest from any."""

    def __init__(self) -> None:
        self._log = LogRing()
        self._log.install()
        self._inbox: deque[tuple[Work, Emit, _Handle]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._opened: OpenedVectors | None = None
        self._vectors: Vectors | None = None
        self._reader: Reader | None = None

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
        vectors = self._vectors
        busy = bool(self._inbox) or (vectors is not None and vectors.busy)
        return BackendStatus(busy=busy, step=vectors.steps if vectors is not None else 0)

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
        opened = open_vectors(
            model, wants, self._log,
            progress=progress, proceed=proceed, stopping=lambda: self._stopping,
        )  # fmt: skip
        loaded = opened.loaded
        self._vectors = Vectors(loaded.context, width=opened.width, packed=opened.packed)
        self._reader = Reader(loaded.model, loaded.vocab, opened.facts.n_ctx)
        self._opened = opened
        return opened.facts

    def run(self) -> None:
        """Take, decode, answer, until `stop`; then free the model."""
        opened, vectors = self._opened, self._vectors
        if opened is None or vectors is None:
            raise EngineError("engine.model_unreadable", reason="run before load")
        try:
            while not self._stopping:
                self._take_requests()
                if vectors.busy:
                    self._turn(vectors)
                else:
                    self._sleep()
        finally:
            self._leave(opened, vectors)

    def _turn(self, vectors: Vectors) -> None:
        try:
            vectors.turn()
        except Exception:  # noqa: BLE001  (the worker loop: one broken step must not end the rest)
            traceback.print_exc(file=sys.stderr)
            vectors.fail_everything("internal", say("engine.internal"))

    def _sleep(self) -> None:
        with self._wake:
            while not self._inbox and not self._stopping:
                self._wake.wait()

    def _take_requests(self) -> None:
        while self._inbox and not self._stopping:
            work, emit, handle = self._inbox[0]
            try:
                self._accept(work, emit, handle)
            except LlmchatError as error:
                code = _CODES.get(error.key, "unsupported")
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
                self._inbox.popleft()

    def _accept(self, work: Work, emit: Emit, handle: "_Handle") -> None:
        assert self._opened is not None
        assert self._vectors is not None
        assert self._reader is not None
        capabilities = self._opened.facts.capabilities
        if isinstance(work, Embed) and "embedding" in capabilities:
            rows = self._reader.embed(work)
        elif isinstance(work, Rerank) and "rerank" in capabilities:
            rows = self._reader.rerank(work)
        else:
            emit(self._answer(work, self._opened))
            return
        job = Job(work, emit, rows)
        self._vectors.add(job)
        handle.bind(self._vectors, job)

    @staticmethod
    def _answer(work: Work, opened: OpenedVectors) -> Event:
        """Small answers.

        Raises:
            GenerationFailed: such a model cannot do it.
        """
        vocab, model = opened.loaded.vocab, opened.facts.model
        if isinstance(work, Tokenize):
            tokens = vocab.tokenize(
                work.text, special=work.parse_special, add_special=work.add_special
            )
            pieces = tuple(map(vocab.piece, tokens))
            return Tokenized(id=work.id, tokens=tuple(tokens), pieces=pieces)
        if isinstance(work, Count) and isinstance(work.prompt, RawText):
            tokens = vocab.tokenize(work.prompt.text, add_special=True)
            return Counted(id=work.id, tokens=len(tokens))
        if isinstance(work, Embed):
            raise GenerationFailed("engine.reranker_only", model=model)
        if isinstance(work, Rerank):
            raise GenerationFailed("engine.no_reranker", model=model)
        raise GenerationFailed("engine.vectors_only", model=model)

    def _leave(self, opened: OpenedVectors, vectors: Vectors) -> None:
        vectors.fail_everything("busy", say("engine.leaving"))
        with self._wake:
            left = list(self._inbox)
            self._inbox.clear()
        for work, emit, _ in left:
            emit(Failed(id=work.id, code="busy", message=say("engine.leaving")))
        self._opened = self._vectors = self._reader = None
        opened.loaded.close()


class _Handle:
    """Cancels a request wherever it is: still in the inbox, or a job."""

    def __init__(self) -> None:
        self._bound: tuple[Vectors, Job] | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """End the request soon; any thread, any number of times."""
        self._cancelled = True
        if self._bound is not None:
            vectors, job = self._bound
            vectors.cancel(job)

    def bind(self, vectors: Vectors, job: Job) -> None:
        """The request became a job."""
        self._bound = (vectors, job)
        if self._cancelled:
            vectors.cancel(job)
