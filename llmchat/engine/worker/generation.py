"""Continuous batching over one context: who is computed in a step, and with what.

Owns a step from the plan to the decode; every method is called on the inference thread, except
`cancel`. Refuses who is let in (`admission.py`), the order in a batch (`scheduler.py`) and what
comes out of it (`choosing.py`).
"""

import time
from collections.abc import Callable
from typing import Literal

from llmchat.engine.worker import scheduler
from llmchat.engine.worker.adapters import NOTHING, Adapters
from llmchat.engine.worker.admission import Admission
from llmchat.engine.worker.capi import ABORTED, NO_MEMORY, NO_SLOT, OK, Context
from llmchat.engine.worker.choosing import Chooser
from llmchat.engine.worker.reply import Part, Reply, Task
from llmchat.engine.worker.reply_text import PACE
from llmchat.engine.worker.speculation import Costs
from llmchat.engine.worker.threads import ThreadGovernor
from llmchat.text import say

Kind = Literal["reads", "guesses", "generates"]
"""What a step is: some of it prompts, or tokens that are guessed, or one token for each reply."""


class Generation:
    """Every Generate request of a worker."""

    def __init__(
        self,
        context: Context,
        admission: Admission,
        adapters: Adapters,
        *,
        n_threads: int,
        markers: frozenset[bytes] = frozenset(),
        called: Callable[[], bool] = lambda: False,
    ) -> None:
        """`markers`: control tokens that mean something to the parser, as their text.

        `called`: whether somebody else waits for this thread.
        """
        self.context = context
        self.table = admission.table
        self.steps = 0
        self._admission = admission
        self._chooser = Chooser(context, self._admission, markers)
        self._adapters = adapters
        self._sizer = scheduler.ChunkSizer(context.batch.n_rows)
        self._governor = ThreadGovernor(n_threads)
        self._cpu: Callable[[], float] = time.process_time if n_threads > 1 else float
        """Seconds of this process; nobody asks where one thread is all there is."""
        self._n_threads = n_threads
        self._costs = Costs()
        self._mixture = NOTHING
        """What the last decode computed with."""
        self._rows_before = 0
        self._called = called
        self._alone: Task | None = None
        """Whose decode runs, when it is nobody else's."""

    @property
    def pace(self) -> float:
        """Seconds that a token of a prompt takes, lately; 0: none was read yet."""
        return self._sizer.per_row

    @property
    def busy(self) -> bool:
        """There is something to do now."""
        return self._admission.busy

    def add(self, task: Task) -> None:
        """Put a request in line."""
        self._admission.add(task)

    def cancel(self, task: Task) -> None:
        """From any thread: end a request soon. A decode stops at once when it is only its own."""
        self._admission.cancel(task)
        if self._alone is task:
            self.context.abort()

    def end_everything(self) -> None:
        """The worker leaves: every request ends as cancelled."""
        self._admission.end_everything()

    def fail_everything(self, message: str) -> None:
        """Something of ours broke in a step: nobody's cells can be trusted."""
        self._admission.fail_everything(message)

    def turn(self) -> None:
        """One turn of the loop: drop what was cancelled, let in, decode, sample."""
        ready = self._admission.turn()
        if ready:
            self._step(self._alike(ready))
        self.steps += 1

    # a step

    def _alike(self, ready: list[Reply]) -> list[Reply]:
        """Those of one mixture of adapters, which holds for a whole decode: each in its turn."""
        if not self._adapters.loaded or all(reply.task.mixture is self._mixture for reply in ready):
            return ready
        mixtures = list(dict.fromkeys(reply.task.mixture for reply in ready))
        place = mixtures.index(self._mixture) + 1 if self._mixture in mixtures else 0
        self._mixture = mixtures[place % len(mixtures)]
        self._adapters.apply(self.context, self._mixture)
        return [reply for reply in ready if reply.task.mixture == self._mixture]

    def _step(self, ready: list[Reply]) -> None:
        generating = [reply for reply in ready if reply.generating]
        batch = self.context.batch
        batch.clear()
        if len(generating) < len(ready):
            self._decode(self._read_some(ready, generating), "reads")
        elif any(reply.drafter for reply in ready) or len(ready) > batch.n_rows:
            shares = scheduler.plan(generating, [], batch.n_rows, 0)
            self._decode(self._in_shares(shares, guess=True), "guesses")
        else:
            parts = [self._next_row(reply) for reply in ready]
            most = self._chooser.most_at_once(ready)
            if most > 1:
                self._go_on(parts, most)
            else:
                self._decode(parts, "generates")

    def _next_row(self, reply: Reply) -> Part:
        """One token of a reply that generates: nearly every step is made of these only."""
        slot = reply.slot
        assert slot is not None
        position = len(slot.tokens)
        row = self.context.batch.add(reply.tokens[position:], position, slot.seq, output=True)
        return Part(reply, 1, row, [])

    def _read_some(self, ready: list[Reply], generating: list[Reply]) -> list[Part]:
        """Rows for those who generate, and a chunk of prompts."""
        for reply in generating:
            reply.text.catch_up()  # the step will take its time
        reading = [reply for reply in ready if not reply.generating]
        chunk = self._sizer.rows(alone=not generating)
        n_rows = self.context.batch.n_rows
        return self._in_shares(scheduler.plan(generating, reading, n_rows, chunk), guess=False)

    def _in_shares(self, shares: list[scheduler.Share], *, guess: bool) -> list[Part]:
        batch = self.context.batch
        parts: list[Part] = []
        for share in shares:
            reply = share.who
            assert isinstance(reply, Reply)
            assert reply.slot is not None
            start = len(reply.slot.tokens)
            tokens = reply.to_compute(start, share.rows)
            last = start + len(tokens) == len(reply.tokens)
            row = batch.add(tokens, start, reply.slot.seq, output=last)
            guesses = self._guess(reply, len(shares)) if guess and reply.drafter else []
            for place, token in enumerate(guesses, start + 1):
                batch.add([token], place, reply.slot.seq, output=True)
            parts.append(Part(reply, len(tokens), row, guesses))
        return parts

    def _guess(self, reply: Reply, replies: int) -> list[int]:
        """Tokens that may follow, to be computed in the same decode."""
        assert reply.drafter is not None
        limit = reply.task.request.max_tokens
        left = self._admission.n_ctx - len(reply.tokens) - 1
        if limit is not None:
            left = min(left, limit - reply.written - 1)
        # Every reply of the step has a row of the outputs that the context was made for.
        outputs = min(self.context.n_seq_max, self.context.batch.n_rows) // replies - 1
        most = min(left, outputs, self.context.batch.room - replies)
        guess = reply.drafter.propose(reply.tokens, max(0, most))
        count = self._costs.worth(replies, reply.drafter.chance, len(guess))
        if guess and not count:
            reply.drafter.forgive()
            self._costs.forgive()
        return guess[:count]

    def _go_on(self, parts: list[Part], most: int) -> None:
        """Steps of one token a reply, at most `most`, while nobody comes, leaves or ends.

        Between two of them only that is done without which the next cannot begin: books, text and
        the look around wait for the last one, 50 ms later.
        """
        if not self._may_compute(parts):
            return
        until = time.perf_counter() + PACE
        steps = 0
        code = self._compute(parts, "generates")
        while code == OK:
            steps += 1
            goes_on = self._chooser.choose(parts)
            if not goes_on or steps == most or self._is_due(until):
                break
            code = self._compute(parts, "generates")
        self._alone = None
        if steps:
            self._chooser.look_back(parts, steps)
        if code != OK:
            self._break(parts, code)

    def _is_due(self, until: float) -> bool:
        return time.perf_counter() >= until or self._admission.some_cancelled or self._called()

    def _decode(self, parts: list[Part], kind: Kind) -> None:
        if not self._may_compute(parts):
            return
        code = self._compute(parts, kind)
        self._alone = None
        if code == OK:
            self._chooser.take(parts)
        else:
            self._break(parts, code)

    def _may_compute(self, parts: list[Part]) -> bool:
        """Note whose step it is, so that a cancel can break it off. False: it came before that."""
        first = parts[0].reply.task
        self.context.abort(False)
        self._alone = (
            first if len(parts) == 1 or all(part.reply.task is first for part in parts) else None
        )
        if first.cancelled and self._alone is not None:
            self._alone = None
            return False
        return True

    def _compute(self, parts: list[Part], kind: Kind) -> int:
        started, cpu = time.perf_counter(), self._cpu()
        code = self.context.decode()
        if code == OK:
            self.context.synchronize()
            self._measure(parts, kind, started, self._cpu() - cpu)
        return code

    def _measure(self, parts: list[Part], kind: Kind, started: float, cpu: float) -> None:
        now = time.perf_counter()
        seconds = now - started
        if kind == "reads":
            self._sizer.observe(sum(part.read for part in parts), seconds)
            return
        if kind == "guesses":
            guessed = sum(len(part.guess) for part in parts)
            self._costs.observe(len(parts), guessed, seconds)
            if guessed:  # a step of another size says nothing about a busy neighbour
                return
        if len(parts) != self._rows_before:
            self._rows_before = len(parts)
            self._governor.forget()
        n_threads = self._governor.observe(seconds, cpu, now)
        if n_threads != self._n_threads:
            self._n_threads = n_threads
            self.context.set_threads(n_threads, n_threads)

    # what went wrong

    def _break(self, parts: list[Part], code: int) -> None:
        replies = [part.reply for part in parts]
        if code == NO_SLOT:
            self._make_room(replies)
        else:
            self._after_break(replies, code)

    def _make_room(self, replies: list[Reply]) -> None:
        """The pool is full: idle prefixes go first, then the youngest reply gives way."""
        if self.table.evict():
            return
        youngest = scheduler.gives_way(replies)
        if youngest is None:
            self._admission.end(replies[0], "context")
            return
        assert isinstance(youngest, Reply)
        self._admission.put_back(youngest)

    def _after_break(self, replies: list[Reply], code: int) -> None:
        """A decode stopped half-way: trust only the positions that llama.cpp still holds."""
        for reply in replies:
            assert reply.slot is not None
            if reply.drafter is not None:  # guesses are nobody's
                self.context.seq_rm(reply.slot.seq, len(reply.tokens), -1)
            self.table.repair(reply.slot, reply.tokens, self.context.pos_max(reply.slot.seq) + 1)
        if code == ABORTED:
            return
        key = "engine.no_memory" if code == NO_MEMORY else "engine.decode_failed"
        message = say(key, code=code)
        for task in {id(reply.task): reply.task for reply in replies}.values():
            self._admission.fail(task, "decode_failed", message)
