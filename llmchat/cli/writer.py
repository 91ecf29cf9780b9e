"""A thread that writes the answer, so that a slow reader never keeps us from the model.

A worker cuts off clients that do not read for a minute; `llmchat run | less` must not be one. Owns
one thread and its queue; pieces that wait are written together.
"""

import queue
import threading
from collections.abc import Callable

from llmchat.cli.output import ReaderGone, write_answer
from llmchat.errors import LlmchatError


class AnswerWriter:
    """Writes pieces to stdout in order. `on_failure` is called in the thread, once."""

    def __init__(self, on_failure: Callable[[], object]) -> None:
        self._on_failure = on_failure
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._failure: ReaderGone | LlmchatError | None = None
        self._thread = threading.Thread(target=self._run, name="answer", daemon=True)
        self._thread.start()

    def write(self, piece: str) -> None:
        """Queue a piece; after a failure it is dropped."""
        if self._failure is None:
            self._pieces.put(piece)

    def close(self) -> None:
        """Wait until everything is written.

        Raises:
            ReaderGone: nobody reads any more.
            LlmchatError: stdout cannot take it (a full disk).
        """
        self._pieces.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            waiting, last = [piece], False
            while not self._pieces.empty() and not last:
                following = self._pieces.get()
                last = following is None
                waiting.append(following or "")
            try:
                write_answer("".join(waiting))
            except (ReaderGone, LlmchatError) as failure:
                self._failure = failure
                self._on_failure()
                return
            if last:
                return
