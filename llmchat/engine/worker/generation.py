"""The replies that run: let in, planned, decoded, sampled, ended.

Owns continuous batching over one context; every method is called on the inference thread, except
`cancel`. Refuses policy (`scheduler.py`), memory rules (`memory/`) and what a prompt is
(`prompts.py`).
"""

import time
from collections.abc import Callable, Sequence

from llmchat.engine.protocol import Failed, PromptProgress, Queued, TokenInfo
from llmchat.engine.worker import scheduler
from llmchat.engine.worker.adapters import NOTHING, Adapters
from llmchat.engine.worker.capi import ABORTED, NO_SLOT, OK, Context
from llmchat.engine.worker.memory import SequenceTable, Slot
from llmchat.engine.worker.memory.checkpoints import marks
from llmchat.engine.worker.reply import Parser, Part, Reply, Task
from llmchat.engine.worker.rivals import describe, sample_with_rivals
from llmchat.engine.worker.sampling import Chain, merge, seed_of
from llmchat.engine.worker.speculation import Costs, Drafter
from llmchat.engine.worker.threads import ThreadGovernor
from llmchat.engine.worker.vocab import Vocab
from llmchat.errors import GenerationFailed
from llmchat.text import say
from llmchat.values import FinishReason, Sampling


class Generation:
    """Every Generate request of a worker."""

    def __init__(
        self,
        context: Context,
        vocab: Vocab,
        table: SequenceTable,
        *,
        n_ctx: int,
        model_sampling: Sampling,
        n_threads: int,
        make_parser: Callable[[Task], Parser],
        markers: frozenset[bytes] = frozenset(),
        adapters: Adapters,
    ) -> None:
        self.context = context
        self._adapters = adapters
        self.vocab = vocab
        self.table = table
        self.n_ctx = n_ctx
        self.waiting: list[Task] = []
        self.running: list[Task] = []
        self.steps = 0
        self._model_sampling = model_sampling
        self._make_parser = make_parser
        self._markers = markers
        self._sizer = scheduler.ChunkSizer(context.batch.n_rows)
        self._governor = ThreadGovernor(n_threads)
        self._costs = Costs()
        self._mixture = NOTHING
        """What the last decode computed with."""
        self._rows_before = 0
        self._alone: Task | None = None
        self._untidy = False
        """Somebody was let in since the pool was last in order."""

    @property
    def pace(self) -> float:
        """Seconds that a token of a prompt takes, lately; 0: none was read yet."""
        return self._sizer.per_row

    @property
    def busy(self) -> bool:
        """Something runs or waits."""
        return bool(self.waiting or self.running)

    def add(self, task: Task) -> None:
        """Put a request in line."""
        self.waiting.append(task)
        self.waiting.sort(key=lambda task: (-task.request.priority, task.arrival))

    def cancel(self, task: Task) -> None:
        """From any thread: end a request soon. A decode stops at once when it is only its own."""
        task.cancelled = True
        if self._alone is task:
            self.context.abort()

    def turn(self) -> None:
        """One turn of the loop: drop what was cancelled, let in, decode, sample."""
        self._drop_cancelled()
        self._admit()
        self._tidy()
        replies = [reply for task in self.running for reply in task.replies]
        self._step([r for r in replies if r.finish is None and r.leader is None])
        self.steps += 1

    # who runs

    def _drop_cancelled(self) -> None:
        for task in [task for task in self.waiting if task.cancelled]:
            self.waiting.remove(task)
            self._open_replies(task, slots=[])
            self._end_all(task, "cancelled")
        for task in [task for task in self.running if task.cancelled]:
            self._end_all(task, "cancelled")

    def _end_all(self, task: Task, reason: FinishReason) -> None:
        for reply in list(task.replies):
            if reply.finish is None:
                self._end(reply, reason)

    def _admit(self) -> None:
        self._resume()
        while self.waiting and self._has_room(self.waiting[0]):
            task = self.waiting.pop(0)
            self._start(task)
        for position, task in enumerate(self.waiting):
            if task.position != position:
                task.position = position
                task.emit(Queued(id=task.request.id, position=position))

    def _tidy(self) -> None:
        """A step towards a pool in which idle sequences cost the running ones nothing."""
        if self._untidy:
            replies = [reply for task in self.running for reply in task.replies]
            self._untidy = self.table.tidy(sum(len(r.tokens) for r in replies if r.slot))

    def _has_room(self, task: Task) -> bool:
        n = max(1, task.request.n)
        if self.table.free() < n:
            return False
        if not self.running or not self.table.kind.cells:
            return True
        return scheduler.fits(
            len(task.prompt),
            self.table.shared(task.prompt),
            n,
            active=self.table.pool.active,
            pool=self.context.n_ctx,
            headroom=task.request.max_tokens or scheduler.HEADROOM,
        )

    def _start(self, task: Task) -> None:
        task.admitted = time.perf_counter()
        first = self.table.open(task.prompt)
        assert first is not None  # _has_room counted
        slots = [first]
        for _ in range(1, task.request.n):
            slot = self.table.empty()
            assert slot is not None
            slots.append(slot)
        for slot in slots:
            slot.tag = task.request.tag
        task.from_disk = first.from_disk
        task.from_memory = len(first.tokens) - first.from_disk
        if self.table.kind.wants_checkpoints:
            pieces = list(map(self.vocab.piece, task.read.tokens))
            task.marks = marks(task.read.segments, pieces)
        self._untidy = True
        self._open_replies(task, slots)
        self.running.append(task)
        self._report(task)

    def _open_replies(self, task: Task, slots: Sequence[Slot]) -> None:
        sampling = merge(task.request.sampling, self._model_sampling)
        banned = self.vocab.ends if task.request.ignore_eos else ()
        for choice in range(max(1, task.request.n)):
            seed = seed_of(sampling, choice)
            chain = Chain(self.vocab, sampling, seed, banned=banned, n_ctx=self.n_ctx)
            chain.remember(task.prompt)
            slot = slots[choice] if slots else None
            reply = Reply(task, choice, slot, chain, self._make_parser(task))
            reply.leader = task.replies[0] if task.replies else None
            reply.rule = task.rules[choice] if task.rules else None
            if task.request.speculation == "ngram" and not self.table.kind.wants_checkpoints:
                reply.drafter = Drafter()
            task.replies.append(reply)

    def _resume(self) -> None:
        """Give replies that gave way a sequence again, the oldest first."""
        parked = [
            reply
            for task in self.running
            for reply in task.replies
            if reply.slot is None and reply.finish is None
        ]
        for reply in sorted(parked, key=lambda reply: reply.order):
            active = self.table.pool.active
            others = any(slot.busy for slot in self.table.slots)
            if others and not scheduler.fits(
                len(reply.tokens), 0, 1, active=active, pool=self.context.n_ctx,
                headroom=scheduler.HEADROOM,
            ):  # fmt: skip
                return
            reply.slot = self.table.open(reply.tokens)
            if reply.slot is None:
                return
            reply.slot.tag = reply.task.request.tag

    # one decode

    def _step(self, replies: list[Reply]) -> None:
        ready = self._alike([reply for reply in replies if reply.slot is not None])
        generating = [reply for reply in ready if reply.generating]
        reading = [reply for reply in ready if not reply.generating]
        if not ready:
            return
        batch = self.context.batch
        chunk = self._sizer.rows(alone=not generating)
        shares = scheduler.plan(generating, reading, batch.n_rows, chunk)
        batch.clear()
        parts: list[Part] = []
        for share in shares:
            reply = share.who
            assert isinstance(reply, Reply)
            assert reply.slot is not None
            start = len(reply.slot.tokens)
            tokens = reply.to_compute(start, share.rows)
            last = start + len(tokens) == len(reply.tokens)
            row = batch.add(tokens, start, reply.slot.seq, output=last)
            guess = self._guess(reply, len(shares)) if not reading else []
            for place, token in enumerate(guess, start + 1):
                batch.add([token], place, reply.slot.seq, output=True)
            parts.append(Part(reply, len(tokens), row, guess))
        self._adapters.apply(self.context, self._mixture)
        self._decode(parts, only_generating=not reading)

    def _alike(self, ready: list[Reply]) -> list[Reply]:
        """Those of one mixture of adapters, which holds for a whole decode: each in its turn."""
        mixtures = list(dict.fromkeys(reply.task.mixture for reply in ready))
        if not mixtures:
            return []
        place = mixtures.index(self._mixture) + 1 if self._mixture in mixtures else 0
        self._mixture = mixtures[place % len(mixtures)]
        return [reply for reply in ready if reply.task.mixture == self._mixture]

    def _guess(self, reply: Reply, replies: int) -> list[int]:
        """Tokens that may follow, to be computed in the same decode."""
        if reply.drafter is None:
            return []
        limit = reply.task.request.max_tokens
        left = self.n_ctx - len(reply.tokens) - 1
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

    def _decode(self, rows: list[Part], *, only_generating: bool) -> None:
        tasks = {id(part.reply.task): part.reply.task for part in rows}
        alone = next(iter(tasks.values())) if len(tasks) == 1 else None
        self.context.abort(False)
        self._alone = alone
        if alone is not None and alone.cancelled:
            # It was cancelled before the flag could reach llama.cpp.
            self._alone = None
            return
        started, cpu = time.perf_counter(), time.process_time()
        code = self.context.decode()
        if code == OK:
            self.context.synchronize()
        self._alone = None
        if code == OK:
            spent = time.perf_counter() - started, time.process_time() - cpu
            self._measure(rows, *spent, only_generating=only_generating)
            self._take(rows)
        elif code == NO_SLOT:
            self._make_room([part.reply for part in rows])
        else:
            self._after_break([part.reply for part in rows], code)

    def _measure(
        self, rows: list[Part], seconds: float, cpu: float, *, only_generating: bool
    ) -> None:
        if not only_generating:
            self._sizer.observe(sum(part.read for part in rows), seconds)
            return
        guessed = sum(len(part.guess) for part in rows)
        self._costs.observe(len(rows), guessed, seconds)
        if guessed:  # a step of another size says nothing about a busy neighbour
            return
        if len(rows) != self._rows_before:
            self._rows_before = len(rows)
            self._governor.forget()
        before = self._governor.n
        threads = self._governor.observe(seconds, cpu, time.monotonic())
        if threads != before:
            self.context.set_threads(threads, threads)

    def _make_room(self, replies: list[Reply]) -> None:
        """The pool is full: idle prefixes go first, then the youngest reply gives way."""
        if self.table.evict():
            return
        youngest = scheduler.gives_way(replies)
        if youngest is None:
            self._end(replies[0], "context")
            return
        assert isinstance(youngest, Reply)
        self._preempt(youngest)

    def _preempt(self, reply: Reply) -> None:
        assert reply.slot is not None
        for other in reply.task.replies:
            if other.leader is reply:  # they were to share what is now dropped: read alone
                other.leader = None
        self.table.park(reply.slot)
        self.table.release(reply.slot)
        reply.slot = None

    def _after_break(self, replies: list[Reply], code: int) -> None:
        """A decode stopped half-way: trust only the positions that llama.cpp still holds."""
        for reply in replies:
            assert reply.slot is not None
            if reply.drafter is not None:  # guesses are nobody's
                self.context.seq_rm(reply.slot.seq, len(reply.tokens), -1)
            self.table.repair(reply.slot, reply.tokens, self.context.pos_max(reply.slot.seq) + 1)
        if code == ABORTED:
            return
        for task in {id(reply.task): reply.task for reply in replies}.values():
            self.fail(task, "decode_failed", say("engine.decode_failed", code=code))

    # what came out

    def _take(self, rows: list[Part]) -> None:
        for reply, count, _row, guess in rows:
            assert reply.slot is not None
            start = len(reply.slot.tokens)
            self.table.extend(reply.slot, [*reply.tokens[start : start + count], *guess])
            if reply.first == 0 and start + count in reply.task.marks:
                self.table.checkpoint(reply.slot)
        for part in rows:
            reply = part.reply
            if reply.first == 0:
                self._report(reply.task)
            if part.guess:
                self._verify(part)
            elif reply.pending == 0:
                for each in self._sharing(reply):
                    self._sample(each, part.row)

    def _verify(self, part: Part) -> None:
        """Sample row by row; a guess counts only as far as it is what is chosen anyway."""
        reply, slot = part.reply, part.reply.slot
        assert slot is not None
        before = len(reply.tokens)
        right = 0
        for row, guess in enumerate([*part.guess, None], part.row):
            self._sample(reply, row)
            if reply.finish is not None or reply.tokens[-1] != guess:
                break
            right += 1
        self.table.cut(slot, before + right)
        if reply.drafter is not None:
            reply.drafter.observe(len(part.guess), right)

    def _sharing(self, reply: Reply) -> list[Reply]:
        """The reply, and those that share the prompt it has just read."""
        followers = [other for other in reply.task.replies if other.leader is reply]
        assert reply.slot is not None
        for other in followers:
            other.leader = None
            assert other.slot is not None
            self.table.share(reply.slot, other.slot, len(reply.slot.tokens))
        return [reply, *followers]

    def _sample(self, reply: Reply, row: int) -> None:
        request = reply.task.request
        if reply.finish is not None or (reply.first == 0 and not self._begin(reply)):
            return
        try:
            chosen = self._choose(reply, row)
        except GenerationFailed as error:  # a constraint that got too complex on the way
            self.fail(reply.task, "bad_grammar", error.sentence)
            return
        if chosen is None:
            self._end(reply, "stop")
            return
        token = chosen.token
        infos = (chosen,) if request.want_tokens or request.top_logprobs > 0 else ()
        reply.last = time.perf_counter()
        if reply.first == 0:
            reply.first = reply.last
        ends = token in self.vocab.ends and not request.ignore_eos
        if ends or token in request.stop_tokens:
            self._end(reply, "stop")
            return
        reply.tokens.append(token)
        reply.say(self._visible(reply, token), infos)
        self._check_end(reply)

    def _choose(self, reply: Reply, row: int) -> TokenInfo | None:
        """The next token with what was asked about it. None: its constraint allows nothing more."""
        rivals = reply.task.request.top_logprobs
        if reply.rule is not None:
            logits = self.context.logits(row)
            token = reply.rule.sample(reply.chain, logits)
            if token is None:
                return None
            return describe(self.vocab, logits, token, rivals, {}) if rivals else TokenInfo(token)
        if rivals > 0:
            return sample_with_rivals(reply.chain, self.context, row, rivals)
        return TokenInfo(reply.chain.sample(self.context, row))

    def _visible(self, reply: Reply, token: int) -> bytes:
        """A token's text; of control tokens only those that mean something to the parser."""
        piece = self.vocab.piece(token)
        hidden = self.vocab.is_control(token) and piece not in self._markers
        hidden = hidden and not reply.parser.verbatim
        return b"" if hidden else piece

    def _begin(self, reply: Reply) -> bool:
        """Before the first token: send what is forced. False: the reply is over."""
        task = reply.task
        task.prompt_done = task.prompt_done or time.perf_counter()
        want = task.request.want_tokens or task.request.top_logprobs > 0
        for token in task.forced:
            reply.say(self._visible(reply, token), (TokenInfo(token),) if want else ())
        if reply.stream.stopped:
            self._end(reply, "stop")
        elif task.request.max_tokens == 0:
            self._end(reply, "length")
        return reply.finish is None

    def _check_end(self, reply: Reply) -> None:
        limit = reply.task.request.max_tokens
        if reply.stream.stopped or (reply.rule is not None and reply.rule.complete):
            self._end(reply, "stop")
        elif limit is not None and reply.written >= limit:
            self._end(reply, "length")
        elif len(reply.tokens) >= self.n_ctx:
            self._end(reply, "context")

    def _report(self, task: Task) -> None:
        slot = task.replies[0].slot
        task.emit(
            PromptProgress(
                id=task.request.id,
                done=min(len(slot.tokens) if slot else 0, len(task.prompt)),
                total=len(task.prompt),
                from_memory=task.from_memory,
                from_disk=task.from_disk,
            )
        )

    def _end(self, reply: Reply, reason: FinishReason) -> None:
        reply.end(reason, self.vocab)
        self._let_go(reply)

    def _let_go(self, reply: Reply) -> None:
        reply.close()
        if reply.slot is not None:
            self.table.release(reply.slot)
            reply.slot = None
        for other in reply.task.replies:
            if other.leader is reply:
                other.leader = None
        task = reply.task
        if task in self.running and all(other.finish is not None for other in task.replies):
            self.running.remove(task)

    def fail(self, task: Task, code: str, message: str) -> None:
        """End a request with Failed; the others go on."""
        task.emit(Failed(id=task.request.id, code=code, message=message))
        for reply in task.replies:
            if reply.finish is None:
                reply.finish = "cancelled"
                self._let_go(reply)
        if task in self.waiting:
            self.waiting.remove(task)

    def end_everything(self) -> None:
        """The worker leaves: every request ends as cancelled."""
        for task in [*self.waiting, *self.running]:
            task.cancelled = True
        self._drop_cancelled()

    def fail_everything(self, message: str) -> None:
        """Something of ours broke in a step: nobody's cells can be trusted."""
        for task in [*self.waiting, *self.running]:
            self.fail(task, "internal", message)
        self.context.clear_memory()
        self.table.clear()
