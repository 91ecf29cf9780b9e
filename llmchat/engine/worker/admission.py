"""The requests of a worker: in line, let in, put back, over.

Owns who holds a sequence of the pool and who waits for one, and what a client is told of that. Each
method is called on the inference thread, except `cancel`. Refuses policy (`scheduler.py`), memory
rules (`memory/`), what a prompt is (`prompts.py`) and computing (`generation.py`).
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from llmchat.engine.protocol import Failed, PromptProgress, Queued
from llmchat.engine.worker import scheduler
from llmchat.engine.worker.capi import Context
from llmchat.engine.worker.fetching import Fetching
from llmchat.engine.worker.memory import SequenceTable, Slot
from llmchat.engine.worker.memory.checkpoints import marks
from llmchat.engine.worker.reply import Reply, Task
from llmchat.engine.worker.reply_text import Parser
from llmchat.engine.worker.sampling import Chain, merge, seed_of
from llmchat.engine.worker.speculation import Drafter
from llmchat.engine.worker.vocab import Vocab
from llmchat.values import FinishReason, Sampling


class Admission:
    """Every Generate request of a worker, from the line to its end."""

    def __init__(
        self,
        context: Context,
        vocab: Vocab,
        table: SequenceTable,
        *,
        n_ctx: int,
        model_sampling: Sampling,
        make_parser: Callable[[Task], Parser],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake`: tells the inference thread, from any other, that there is something to do."""
        self.waiting: list[Task] = []
        self.running: list[Task] = []
        self.n_ctx: Final = n_ctx
        self.vocab: Final = vocab
        self.table: Final = table
        self._context = context
        self._model_sampling = model_sampling
        self._make_parser = make_parser
        self._wake = wake
        self._fetching = Fetching(table, wake)
        self._put_back: list[Reply] = []
        """Running replies that gave way, and read their tokens anew once there is room."""
        self.some_cancelled = False
        """Somebody who is here does not want to be any more: `turn` is due."""
        self.untidy = False
        """Somebody was let in since the pool was last in order."""

    @property
    def busy(self) -> bool:
        """There is something to do now: not all wait for a disk."""
        if self._fetching.nobody_is_away:  # nearly always
            return bool(self.running or self.waiting)
        away = self._fetching.is_away
        return (
            self.some_cancelled
            or any(not away(task) for task in self.waiting)
            or any(
                reply.finish is None and not away(reply)
                for task in self.running
                for reply in task.replies
            )
        )

    def add(self, task: Task) -> None:
        """Put a request in line."""
        self.waiting.append(task)
        self.waiting.sort(key=lambda task: (-task.request.priority, task.arrival))

    def cancel(self, task: Task) -> None:
        """From any thread: end a request before the next step."""
        task.cancelled = True
        self.some_cancelled = True
        self._wake()

    def turn(self) -> list[Reply]:
        """Drop what was cancelled, let in who has room; whose tokens may be computed now."""
        if self.some_cancelled:
            self.some_cancelled = False
            self._drop_cancelled()
        if self._put_back:
            self._resume()
        if self.waiting:
            self._admit()
        if self.untidy:
            self._tidy()
        return [
            reply
            for task in self.running
            for reply in task.replies
            if reply.slot is not None and reply.leader is None
        ]

    def _drop_cancelled(self) -> None:
        for task in [task for task in self.waiting if task.cancelled]:
            self.waiting.remove(task)
            self._fetching.drop(task)
            self._open_replies(task, slots=[])
            self._end_all(task, "cancelled")
        for task in [task for task in self.running if task.cancelled]:
            self._end_all(task, "cancelled")

    def _end_all(self, task: Task, reason: FinishReason) -> None:
        for reply in list(task.replies):
            if reply.finish is None:
                self.end(reply, reason)

    # who is let in

    def _admit(self) -> None:
        for task in list(self.waiting):
            if self._fetching.is_away(task):
                continue
            if not self._has_room(task):
                break
            if not self._fetching.sends(task, task.prompt):
                self._start(task)
        line = [task for task in self.waiting if not self._fetching.is_away(task)]
        for position, task in enumerate(line):
            if task.position != position:
                task.position = position
                task.emit(Queued(id=task.request.id, position=position))

    def _tidy(self) -> None:
        """A step towards a pool in which idle sequences cost the running ones nothing."""
        replies = [reply for task in self.running for reply in task.replies]
        self.untidy = self.table.tidy(sum(len(r.tokens) for r in replies if r.slot))

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
            pool=self._context.n_ctx,
            headroom=task.request.max_tokens or scheduler.HEADROOM,
        )

    def _start(self, task: Task) -> None:
        task.admitted = time.perf_counter()
        first = self.table.open(task.prompt, self._fetching.take(task))
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
        self.untidy = True
        self._open_replies(task, slots)
        # Not before: it is in line or runs, so that whatever breaks meanwhile is told to it, too.
        self.waiting.remove(task)
        self.running.append(task)
        report(task)

    def _open_replies(self, task: Task, slots: Sequence[Slot]) -> None:
        sampling = merge(task.request.sampling, self._model_sampling)
        banned = self.vocab.ends if task.request.ignore_eos else frozenset()
        task.ends = frozenset(task.request.stop_tokens) | self.vocab.ends.difference(banned)
        for choice in range(max(1, task.request.n)):
            seed = seed_of(sampling, choice)
            chain = Chain(self.vocab, sampling, seed, banned=banned, n_ctx=self.n_ctx)
            chain.remember(task.prompt)
            slot = slots[choice] if slots else None
            reply = Reply(task, choice, slot, chain, self._make_parser(task))
            reply.leader = task.replies[0] if task.replies else None
            reply.rule = task.rules[choice] if task.rules else None
            if task.request.speculation == "ngram" and self.table.kind.takes_back:
                reply.drafter = Drafter()
            task.replies.append(reply)

    # who gives way

    def put_back(self, reply: Reply) -> None:
        """Take a reply's sequence; it goes on when there is room again."""
        assert reply.slot is not None
        reply.text.catch_up()
        self._leave_followers(reply)  # they were to share what is now dropped: read alone
        self.table.park(reply.slot)
        self.table.release(reply.slot)
        reply.slot = None
        self._put_back.append(reply)

    def _resume(self) -> None:
        """Give replies that gave way a sequence again, the oldest first."""
        for reply in sorted(self._put_back, key=lambda reply: reply.order):
            if self._fetching.is_away(reply):
                continue
            active = self.table.pool.active
            others = any(slot.busy for slot in self.table.slots)
            if others and not scheduler.fits(
                len(reply.tokens), 0, 1, active=active, pool=self._context.n_ctx,
                headroom=scheduler.HEADROOM,
            ):  # fmt: skip
                return
            if self._fetching.sends(reply, reply.tokens):
                continue
            reply.slot = self.table.open(reply.tokens, self._fetching.take(reply))
            if reply.slot is None:
                return
            reply.slot.tag = reply.task.request.tag
            self._put_back.remove(reply)

    # how it ends

    def end(self, reply: Reply, reason: FinishReason) -> None:
        """Send what is left of a reply, and Finished."""
        reply.end(reason, self.vocab)
        self._let_go(reply)

    def fail(self, task: Task, code: str, message: str) -> None:
        """End a request with Failed; the others go on."""
        for reply in task.replies:
            reply.text.catch_up()
        task.emit(Failed(id=task.request.id, code=code, message=message))
        for reply in task.replies:
            if reply.finish is None:
                reply.finish = "cancelled"
                self._let_go(reply)
        if task in self.waiting:
            self.waiting.remove(task)
            self._fetching.drop(task)

    def _let_go(self, reply: Reply) -> None:
        reply.close()
        if reply.slot is not None:
            self.table.release(reply.slot)
            reply.slot = None
        elif reply in self._put_back:
            self._put_back.remove(reply)
            self._fetching.drop(reply)
        self._leave_followers(reply)
        task = reply.task
        if task in self.running and all(other.finish is not None for other in task.replies):
            self.running.remove(task)

    @staticmethod
    def _leave_followers(reply: Reply) -> None:
        for other in reply.task.replies:
            if other.leader is reply:
                other.leader = None

    def end_everything(self) -> None:
        """The worker leaves: every request ends as cancelled."""
        for task in [*self.waiting, *self.running]:
            task.cancelled = True
        self._drop_cancelled()

    def fail_everything(self, message: str) -> None:
        """Something of ours broke in a step: nobody's cells can be trusted."""
        for task in [*self.waiting, *self.running]:
            self.fail(task, "internal", message)
        self._context.clear_memory()
        self.table.clear()


def report(task: Task) -> None:
    """Tell the client how far its prompt is."""
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
