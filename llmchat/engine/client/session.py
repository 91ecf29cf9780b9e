"""A session with a local worker: requests in, events out, and cancelling that never waits."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from llmchat.engine.client.link import Link, Waiting, fresh
from llmchat.engine.protocol import (
    Cancel,
    Count,
    Counted,
    Delta,
    Done,
    Embed,
    Embedded,
    Facts,
    Failed,
    Finished,
    Generate,
    KeepAlive,
    Prompt,
    PromptProgress,
    Queued,
    Render,
    Rendered,
    Request,
    Rerank,
    Reranked,
    StatusRequest,
    Tokenize,
    Tokenized,
    WorkerStatus,
)
from llmchat.engine.session import GenerateEvent, OnCount, OnLate
from llmchat.errors import EngineError, GenerationFailed, WorkerDied
from llmchat.text.cleaning import clean_line

Answer = TypeVar("Answer", Rendered, Counted, Tokenized, Done, WorkerStatus)

Found = TypeVar("Found", Embedded, Reranked)


class LocalSession:
    """See session.Session."""

    def __init__(
        self,
        link: Link,
        facts: Facts,
        *,
        on_close: Callable[["LocalSession"], None],
        on_cancel: Callable[[int, Waiting, int, OnLate | None], None],
        saves_kv: bool = False,
    ) -> None:
        """`saves_kv`: what is generated here may be kept on disk under its request's tag."""
        self._link = link
        self._facts = facts
        self._on_close = on_close
        self._on_cancel = on_cancel
        self._saves_kv = saves_kv

    @property
    def facts(self) -> Facts:
        """What the loaded model is."""
        return self._facts

    @property
    def alive(self) -> bool:
        """False once the worker is gone."""
        return self._link.alive

    async def generate(
        self, request: Generate, late: OnLate | None = None
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Run a request; see session.Session.generate."""
        number, queue = self._link.new_request()
        left = max(1, request.n)  # a worker refuses fewer with Failed
        over = False
        try:
            tag = request.tag if self._saves_kv else ""
            self._link.send(replace(request, id=number, tag=tag))
            while left:
                event = await queue.get()
                if isinstance(event, WorkerDied | Failed):
                    over = True
                    raise _failure(event)
                if isinstance(event, Finished):
                    left -= 1
                if isinstance(event, Queued | PromptProgress | Delta | Finished):
                    yield event
            over = True
        finally:
            if over:
                self._link.forget(number)
            else:
                self._link.send(Cancel(id=0, target=number))
                self._on_cancel(number, queue, left, late)

    async def render(self, prompt: Prompt) -> Rendered:
        """The exact text and tokens that the model would read."""
        return await self._ask(lambda number: Render(id=number, prompt=prompt), Rendered)

    async def count(self, prompt: Prompt) -> Counted:
        """Tokens of a prompt, by message."""
        return await self._ask(lambda number: Count(id=number, prompt=prompt), Counted)

    async def tokenize(
        self, text: str, *, parse_special: bool = False, add_special: bool = False
    ) -> Tokenized:
        """Tokens of a text."""
        return await self._ask(
            lambda number: Tokenize(
                id=number, text=text, parse_special=parse_special, add_special=add_special
            ),
            Tokenized,
        )

    async def embed(
        self,
        texts: Sequence[str],
        *,
        truncate: bool = False,
        normalize: bool = True,
        first: int = 1,
        on_progress: OnCount | None = None,
    ) -> Embedded:
        """A vector for each text; see session.Session.embed."""
        request = Embed(
            id=0, texts=tuple(texts), truncate=truncate, normalize=normalize, first=first
        )
        return await self._wait_for(request, Embedded, on_progress)

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        truncate: bool = False,
        on_progress: OnCount | None = None,
    ) -> Reranked:
        """A score for each document; see session.Session.rerank."""
        request = Rerank(id=0, query=query, documents=tuple(documents), truncate=truncate)
        return await self._wait_for(request, Reranked, on_progress)

    async def _wait_for(
        self, request: Embed | Rerank, expected: type[Found], on_progress: OnCount | None
    ) -> Found:
        """The answer to a request that tells how far it is; given up, it is cancelled there."""
        number, queue = self._link.new_request()
        over = False
        try:
            self._link.send(replace(request, id=number))
            while isinstance(event := await queue.get(), PromptProgress):
                if on_progress is not None:
                    on_progress(event.done, event.total)
            over = True
        finally:
            self._link.forget(number)
            if not over:
                self._link.send(Cancel(id=0, target=number))
        if isinstance(event, WorkerDied | Failed):
            raise _failure(event)
        if not isinstance(event, expected):
            raise EngineError("engine.bad_frame", reason=type(event).__name__)
        return event

    async def keep_alive(self, seconds: float) -> None:
        """How long the worker should stay once idle."""
        await self._ask(lambda number: KeepAlive(id=number, seconds=seconds), Done)

    async def status(self) -> WorkerStatus:
        """What the worker holds and who else uses it."""
        return await self._ask(lambda number: StatusRequest(id=number), WorkerStatus)

    async def aclose(self) -> None:
        """Let go. The worker lives on for its keep-alive."""
        self._on_close(self)
        await self._link.aclose()

    async def _ask(self, make: Callable[[int], Request], expected: type[Answer]) -> Answer:
        answer = await self._link.ask(make)
        if isinstance(answer, Failed):
            raise _failure(answer)
        if not isinstance(answer, expected):
            raise EngineError("engine.bad_frame", reason=type(answer).__name__)
        return answer


def _failure(event: Failed | WorkerDied) -> EngineError:
    if isinstance(event, WorkerDied):
        return fresh(event)
    reason = clean_line(event.message)
    if event.hint:
        return GenerationFailed(
            "engine.failed_with_hint",
            recoverable=event.recoverable,
            reason=reason,
            next=clean_line(event.hint),
            code=event.code,
        )
    return GenerationFailed(
        "engine.failed", recoverable=event.recoverable, reason=reason, code=event.code
    )
