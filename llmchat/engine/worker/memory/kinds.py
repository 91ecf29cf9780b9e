"""What a model's memory can do, and what is kept of a sequence outside the pool.

Owns the one rule that decides how much of a known prefix may be used (`reach`): nothing here ever
reuses what would be silently wrong. Pure Python: no llama.cpp, no policy.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Bytes = npt.NDArray[np.uint8]


class Memory(Protocol):
    """What the table asks of a context; `capi.Context` has it, and so do the tests' fakes."""

    def seq_rm(self, seq: int, start: int = -1, end: int = -1) -> bool:
        """Forget positions [start, end). False: this memory cannot, and nothing changed."""
        ...

    def seq_cp(self, source: int, target: int, end: int) -> None:
        """Share positions [0, end)."""
        ...

    def pos_min(self, seq: int) -> int:
        """First position that is still there, -1 when empty."""
        ...

    def state(self, seq: int, flags: int = 0) -> Bytes | None:
        """A sequence's state, bit-exact; None when there is none to be had."""
        ...

    def restore(self, seq: int, data: Bytes, flags: int = 0) -> bool:
        """Put a state back in place of what the sequence holds. False: it does not fit."""
        ...


class Kind(Struct, frozen=True, kw_only=True):
    """What a model's memory can do."""

    n_swa: int = 0
    """Width of the sliding window; 0 = attention sees everything."""
    swa_full: bool = False
    """Cells behind the window stay in the pool. A state drops them all the same."""
    whole_only: bool = False
    """Recurrent and hybrid: a state stands for its whole prefix, it cannot be cut."""
    cells: bool = True
    """Whether tokens take cells; False: recurrent only, a sequence costs the same at any length."""

    @property
    def wants_checkpoints(self) -> bool:
        """Going back needs what was kept on the way: in the pool, or once a state was taken."""
        return self.whole_only or self.n_swa > 0

    @property
    def takes_back(self) -> bool:
        """Whether the last few tokens of a running sequence can always be cut off again."""
        return not self.whole_only and (not self.n_swa or self.swa_full)

    def state_begins(self, length: int, pos_min: int) -> int:
        """Where the window begins in a state of `length` tokens that is taken now.

        Whatever the pool still holds (`pos_min`), llama.cpp writes no cell that the next token
        does not see (`is_masked_swa` in src/llama-kv-cache.cpp, state_write).
        """
        return max(0, pos_min, length - self.n_swa) if self.n_swa else 0


class Checkpoint(Struct, frozen=True, eq=False):
    """What a sequence was after its first `end` tokens: the part that cannot be cut back to.

    `PARTIAL_ONLY` state: the sliding window's cells or the recurrent state. The cells of full
    attention are not in it; they are cut, or copied, as those of any other model.
    """

    end: int
    state: Bytes


class Kept(Struct, frozen=True, eq=False):
    """A sequence outside the pool: its tokens and its whole state, bit-exact."""

    tokens: list[int]
    state: Bytes
    first: int = 0
    """Where a sliding window begins in the state: `pos_min` once it is restored."""
    checkpoints: tuple[Checkpoint, ...] = ()
    tag: str = ""
    """The conversation it belongs to; empty: it must never reach a disk."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.state.nbytes + sum(point.state.nbytes for point in self.checkpoints)

    def reach(self, kind: Kind, common: int) -> int:
        """`reach` of this sequence."""
        return reach(kind, len(self.tokens), self.first, common, ends(self.checkpoints))


def ends(checkpoints: Iterable[Checkpoint]) -> tuple[int, ...]:
    """The lengths at which a sequence can be taken up again."""
    return tuple(point.end for point in checkpoints)


def cuttable(kind: Kind, length: int, first: int, at: int) -> bool:
    """Whether a sequence of `length` tokens can be cut to its first `at` and is right afterwards.

    The rule for windows is llama.cpp's own (tools/server/server-context.cpp): the whole window
    before the cut must still be there. llama.cpp itself answers True to every cut.
    """
    if at == length:
        return True
    if kind.whole_only:
        return False
    return not kind.n_swa or first == 0 or 0 <= first < max(0, at - kind.n_swa)


def reach(kind: Kind, length: int, first: int, common: int, checkpoints: Iterable[int] = ()) -> int:
    """How many tokens of a prompt a sequence can spare it when they have `common` in common.

    `length` are the tokens of the sequence, `first` its pos_min, `checkpoints` where it has some.
    The caller leaves at least the prompt's last token out of `common`: its logits are needed.
    """
    if common <= 0:
        return 0
    if cuttable(kind, length, first, common):
        return common
    return max((end for end in checkpoints if end <= common), default=0)
