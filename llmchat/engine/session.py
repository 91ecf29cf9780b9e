"""What core sees of an engine: two protocols, and nothing of processes or sockets.

`LocalEngine` (client/engine.py) implements them over worker processes; a remote engine will over an
OpenAI-compatible server. One contract suite (tests/engine) holds for every implementation.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from llmchat.engine.protocol import (
    Counted,
    Delta,
    Embedded,
    Facts,
    Finished,
    Generate,
    Loading,
    Plan,
    Prompt,
    PromptProgress,
    Queued,
    Rendered,
    Reranked,
    Tokenized,
    WorkerStatus,
)
from llmchat.values import ModelFile, Wants

GenerateEvent = Queued | PromptProgress | Delta | Finished
"""What `Session.generate` yields. A failure is raised: GenerationFailed or WorkerDied."""

OnCount = Callable[[int, int], None]
"""Is told how many texts are done, and of how many."""

OnProgress = Callable[[Plan | Loading], None]

OnLate = Callable[[GenerateEvent], None]
"""Gets what a cancelled request still sends: its last words, and how it ended."""


class Session(Protocol):
    """A client's connection to a loaded model. Several requests may run at once."""

    @property
    def facts(self) -> Facts:
        """What the loaded model is."""
        ...

    @property
    def alive(self) -> bool:
        """False once the worker is gone; open the model again then."""
        ...

    def generate(
        self, request: Generate, late: OnLate | None = None
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Run a request; its id is chosen here. Closing the generator cancels it.

        Ends after `n` Finished events. When it is closed before, `late` gets the rest as it comes:
        a worker that listens sends Finished(cancelled) within a token.

        Raises:
            GenerationFailed: this request failed; the session goes on.
            WorkerDied: the worker is gone, with its signal and last lines.
        """
        ...

    async def render(self, prompt: Prompt) -> Rendered:
        """The exact text and tokens that the model would read."""
        ...

    async def count(self, prompt: Prompt) -> Counted:
        """Tokens of a prompt, by message."""
        ...

    async def tokenize(
        self, text: str, *, parse_special: bool = False, add_special: bool = False
    ) -> Tokenized:
        """Tokens of a text."""
        ...

    async def embed(
        self,
        texts: Sequence[str],
        *,
        truncate: bool = False,
        normalize: bool = True,
        first: int = 1,
        on_progress: OnCount | None = None,
    ) -> Embedded:
        """A vector for each text. Cancelling the call ends the request.

        `first` is the first text's number in errors, when a list comes in several requests.

        Raises:
            GenerationFailed: the model makes none, or a text is too long and not to be cut.
        """
        ...

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        truncate: bool = False,
        on_progress: OnCount | None = None,
    ) -> Reranked:
        """How well each document answers the query: higher is better. As `embed` otherwise."""
        ...

    async def keep_alive(self, seconds: float) -> None:
        """How long the worker should stay once idle (0 = leave with the last client, -1 = stay)."""
        ...

    async def status(self) -> WorkerStatus:
        """What the worker holds and who uses it."""
        ...

    async def aclose(self) -> None:
        """Let go. The worker lives on for its keep-alive."""
        ...


class Engine(Protocol):
    """Opens models and lists what is loaded on this machine."""

    async def open(
        self, model: ModelFile, wants: Wants, on_progress: OnProgress | None = None
    ) -> Session:
        """Find a live worker that satisfies `wants`, or start one, and wait until it is ready.

        Cancelling the call lets go of a worker that is still loading.

        Raises:
            EngineError: it cannot be loaded; the sentence carries llama.cpp's reason.
            WorkerDied: the process died while loading.
            ModelBusy: another client holds it with other wants, and a second does not fit.
        """
        ...

    async def live(self) -> list[WorkerStatus]:
        """Every live worker of this user; one that does not answer within 2 s is left out."""
        ...

    async def stop(self, pid: int, *, force: bool = False) -> bool:
        """End a live worker, by signal when `force`. False if it is busy and not forced."""
        ...

    def forget_deaths(self, model: ModelFile) -> None:
        """Somebody asks for this model by hand: a crash loop no longer keeps it from starting."""
        ...

    async def aclose(self) -> None:
        """Close every session that is still open."""
        ...
