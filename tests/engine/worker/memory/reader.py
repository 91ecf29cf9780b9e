"""One context, one sequence table, no loop: prompts are read, and their logits compared."""

from collections.abc import Sequence

import numpy as np

from llmchat.engine.worker import fit
from llmchat.engine.worker.capi import OK, Context, Floats
from llmchat.engine.worker.loader import ContextParams, open_context
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.memory import Parked, SequenceTable, Slot
from llmchat.engine.worker.vocab import Vocab

N_BATCH = 256


class Reader:
    """Reads prompts as the loop does; `marks` are where checkpoints are taken."""

    def __init__(
        self, model, *, swa_full: bool = False, n_ctx: int = 2048, n_seq_max: int = 4,
        shelf_bytes: int = 1 << 30,
    ) -> None:  # fmt: skip
        params = ContextParams(
            n_ctx=n_ctx, n_seq_max=n_seq_max, n_batch=N_BATCH, n_ubatch=N_BATCH, n_threads=1,
            swa_full=swa_full,
        )  # fmt: skip
        self.context = Context(open_context(model, params, LogRing()), Vocab(model).size, N_BATCH)
        kind = fit.memory_kind(model, swa_full)
        self.table = SequenceTable(
            self.context, n_seq_max, kind, n_cells=self.context.n_ctx,
            shelves=[Parked(shelf_bytes, kind)],
        )  # fmt: skip
        self.reused = 0

    def open(self, tokens: list[int], marks: Sequence[int] = ()) -> tuple[Slot, Floats]:
        """A running sequence that holds `tokens`, and the last one's logits."""
        slot = self.table.open(tokens)
        assert slot is not None
        self.reused = len(slot.tokens)
        return slot, self.go_on(slot, tokens, marks)

    def go_on(self, slot: Slot, tokens: list[int], marks: Sequence[int] = ()) -> Floats:
        """Compute what `slot` does not hold of `tokens`."""
        row = 0
        while (start := len(slot.tokens)) < len(tokens):
            until = min((mark for mark in marks if mark > start), default=len(tokens))
            chunk = tokens[start : min(start + N_BATCH, until)]
            self.context.batch.clear()
            row = self.context.batch.add(
                chunk, start, slot.seq, output=start + len(chunk) == len(tokens)
            )
            assert self.context.decode() == OK
            self.table.extend(slot, chunk)
            if len(slot.tokens) in marks:
                self.table.checkpoint(slot)
        return self.context.logits(row).copy()

    def read(self, tokens: list[int], marks: Sequence[int] = ()) -> Floats:
        """The logits after `tokens`, whose sequence is idle afterwards."""
        slot, logits = self.open(tokens, marks)
        self.table.release(slot)
        return logits

    def close(self) -> None:
        self.context.close()


def divergence(one: Floats, two: Floats) -> float:
    """KL(one || two) in nats."""
    p, q = (x - x.max() - np.log(np.exp(x - x.max()).sum()) for x in (one, two))
    return float((np.exp(p) * (p - q)).sum())
