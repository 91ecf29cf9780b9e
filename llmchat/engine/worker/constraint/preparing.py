"""Reading constraints on a thread of their own: half a second there stops nobody's reply.

Owns the thread, the tokenizer (made on first use), the last compiled constraints, and the deadline.
Refuses to know what a request is: it gets a constraint, and hands over what came of it.
"""

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from subprocess import Popen
from typing import TYPE_CHECKING, Final

from llmchat.engine.protocol import Constraint
from llmchat.engine.worker.constraint.faults import bad
from llmchat.engine.worker.constraint.native import LONGEST, Grammar
from llmchat.engine.worker.constraint.rule import Rule
from llmchat.engine.worker.vocab import Vocab
from llmchat.errors import GenerationFailed

if TYPE_CHECKING:
    from llguidance import LLTokenizer

    from llmchat.engine.worker.constraint.guided import Guide

DEADLINE: Final = 20.0
"""Seconds for one constraint, its trial included; the worst that survives that took 0.7."""
KEPT: Final = 8

Prepared = list[Rule] | GenerationFailed
"""A rule for each choice, or why there is none."""


class _Job:
    """One constraint to read; handed over once, by whoever is first."""

    def __init__(self, constraint: Constraint, n: int, ready: Callable[[Prepared], None]) -> None:
        self.constraint = constraint
        self.n = n
        self._ready = ready
        self._lock = threading.Lock()
        self._over = False

    def hand_over(self, result: Prepared) -> bool:
        """False: it was given up before."""
        with self._lock:
            if self._over:
                return False
            self._over = True
        self._ready(result)
        return True


class Preparing:
    """Prepares constraints for one model, one after another."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stuck = False
        self._closing = False
        self._trial: Popen[bytes] | None = None
        self._tokenizer: LLTokenizer | None = None
        self._known: OrderedDict[Constraint, Guide] = OrderedDict()

    def start(self, constraint: Constraint, n: int, ready: Callable[[Prepared], None]) -> None:
        """Read a constraint for `n` replies; `ready` is called once, on another thread."""
        job = _Job(constraint, n, ready)
        if self._stuck:
            job.hand_over(bad("grammar_slow", seconds=DEADLINE))
            return
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="constraints", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def close(self) -> bool:
        """End the thread. False: it is stuck, and the vocabulary must not be freed under it."""
        self._closing = True
        if self._trial is not None:
            self._trial.kill()
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(DEADLINE)
        self._known.clear()
        self._tokenizer = None
        return self._thread is None or not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            timer = threading.Timer(DEADLINE, self._give_up, [job])
            timer.daemon = True
            timer.start()
            result: Prepared = bad("grammar_refused")
            try:
                result = self._prepare(job)
            except GenerationFailed as error:
                result = error
            finally:  # whatever broke, the request ends
                timer.cancel()
                if not job.hand_over(result) and isinstance(result, list):
                    _close(result)
                self._stuck = False

    def _give_up(self, job: _Job) -> None:
        self._stuck = job.hand_over(bad("grammar_slow", seconds=DEADLINE))

    def _prepare(self, job: _Job) -> list[Rule]:
        if self._closing:
            raise bad("grammar_refused")
        if job.constraint.kind == "gbnf":
            first = Grammar.parse(self._vocab, job.constraint.text)
            return [first, *(first.fork() for _ in range(1, job.n))]
        guide = self._guide(job.constraint)
        return [guide.fork() for _ in range(job.n)]

    def _guide(self, constraint: Constraint) -> "Guide":
        from llmchat.engine.worker.constraint.guided import Guide, make_tokenizer

        known = self._known.get(constraint)
        if known is None:
            self._try(constraint)
            if self._tokenizer is None:
                self._tokenizer = make_tokenizer(self._vocab)
            known = self._known[constraint] = Guide(self._tokenizer, self._vocab, constraint)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(constraint)
        return known

    def _try(self, constraint: Constraint) -> None:
        """Let another process compile it first.

        Raises:
            GenerationFailed: that did not survive it.
        """
        from llmchat.engine.worker.constraint import trial

        if len(constraint.text) > LONGEST:
            raise bad("grammar_long", most=LONGEST)
        with trial.start(constraint.kind, constraint.text) as self._trial:
            code = self._trial.wait()
        if code < 0:
            raise bad("grammar_kills")


def _close(rules: list[Rule]) -> None:
    for rule in rules:
        rule.close()
