"""What both real backends are: an inbox, llama.cpp's log, and a load that can be stopped.

Refuses what is loaded and what is made of requests: a subclass's own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from llmchat.engine.backend import BackendStatus, Emit, Verdict, Work
from llmchat.engine.protocol import Facts, Loading, Plan
from llmchat.engine.worker.inbox import Inbox
from llmchat.engine.worker.loading import Audience
from llmchat.engine.worker.log import LogRing
from llmchat.errors import EngineError
from llmchat.values import ModelFile, Wants


class ThreadedBackend(ABC):
    """Implements `Backend`. `load` and `run` on the inference thread, the rest from any."""

    def __init__(self) -> None:
        self._log = LogRing()
        self._log.install()
        self._inbox = Inbox()

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
        audience = Audience(progress, proceed, lambda: self._inbox.stopping)
        try:
            return self._open(model, wants, audience)
        except MemoryError as error:  # llama.cpp says by itself when it has none, Python does not
            raise EngineError("engine.no_memory", recoverable=True) from error

    @abstractmethod
    def _open(self, model: ModelFile, wants: Wants, audience: Audience) -> Facts:
        """Load it; from then on `self._inbox.interrupt` ends a step that runs.

        Raises:
            EngineError: as `load`.
        """

    @abstractmethod
    def run(self) -> None:
        """Answer requests until `stop`; then free the model."""

    @abstractmethod
    def status(self) -> BackendStatus:
        """Read without waiting for the loop."""

    def submit(self, work: Work, emit: Emit) -> Callable[[], None]:
        """Queue a request; the function returned cancels it."""
        return self._inbox.submit(work, emit)

    def stop(self) -> None:
        """Make `run` return soon, or the load fail."""
        self._inbox.stop()

    def last_lines(self) -> tuple[str, ...]:
        """llama.cpp's last words."""
        return self._log.last()
