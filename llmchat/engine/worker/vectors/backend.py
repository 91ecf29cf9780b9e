"""The backend of a model that makes vectors: one inference thread over one context.

Owns the small answers that such a model can give (tokens of a text). Refuses the queue and the loop
(`inbox.py`), and writing: Generate is answered with a sentence.
"""

from functools import partial

from llmchat.engine.backend import BackendStatus, Work
from llmchat.engine.protocol import (
    Count,
    Counted,
    Embed,
    Event,
    Facts,
    RawText,
    Rerank,
    Tokenize,
    Tokenized,
)
from llmchat.engine.worker.inbox import Request
from llmchat.engine.worker.loading import Audience
from llmchat.engine.worker.threaded import ThreadedBackend
from llmchat.engine.worker.vectors.computing import Job, Vectors
from llmchat.engine.worker.vectors.opening import OpenedVectors, open_vectors
from llmchat.engine.worker.vectors.texts import Reader
from llmchat.errors import EngineError, GenerationFailed
from llmchat.values import ModelFile, Wants


class VectorBackend(ThreadedBackend):
    """Vectors of texts, or scores of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self._opened: OpenedVectors | None = None
        self._vectors: Vectors | None = None

    def status(self) -> BackendStatus:
        """Read without waiting for the loop."""
        return BackendStatus(step=self._vectors.steps if self._vectors is not None else 0)

    def _open(self, model: ModelFile, wants: Wants, audience: Audience) -> Facts:
        self._opened = opened = open_vectors(model, wants, self._log, audience)
        context = opened.loaded.context
        self._inbox.interrupt = context.abort
        self._vectors = Vectors(context, width=opened.width, packed=opened.packed)
        return opened.facts

    def run(self) -> None:
        """Answer requests until `stop`; then free the model."""
        opened, vectors = self._opened, self._vectors
        if opened is None or vectors is None:
            raise EngineError("engine.model_unreadable", reason="run before load")
        reader = Reader(opened.loaded.model, opened.loaded.vocab, opened.facts.n_ctx)
        try:
            self._inbox.serve(partial(self._accept, opened, vectors, reader), vectors)
        finally:
            self._opened = self._vectors = None
            opened.loaded.close()

    def _accept(
        self, opened: OpenedVectors, vectors: Vectors, reader: Reader, request: Request
    ) -> None:
        work, capabilities = request.work, opened.facts.capabilities
        if isinstance(work, Embed) and "embedding" in capabilities:
            rows = reader.embed(work)
        elif isinstance(work, Rerank) and "rerank" in capabilities:
            rows = reader.rerank(work)
        else:
            request.emit(self._answer(work, opened))
            return
        job = Job(work, request.emit, rows)
        vectors.add(job)
        request.bind(partial(vectors.cancel, job))

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
