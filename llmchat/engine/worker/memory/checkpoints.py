"""Where a sequence can be taken up again when its memory cannot be cut.

Owns at which tokens of a prompt a checkpoint is worth its bytes, and which are let go when there
are many. Refuses taking and restoring them (`sequences.py`), and what they are good for
(`kinds.py`).
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from llmchat.engine.worker.chat.segments import Segment
from llmchat.engine.worker.memory.kinds import Checkpoint

MOST: Final = 12
"""Checkpoints of one sequence."""
APART: Final = 16
"""Tokens: two checkpoints that are nearer are one, the later."""
BEFORE_END: Final = 4
"""A raw prompt's last tokens may read differently when more follows (llama.cpp's own figure)."""


def marks(segments: Sequence[Segment], pieces: Sequence[bytes]) -> list[int]:
    """Lengths of a prompt at which a checkpoint is taken, ascending.

    `pieces` are the prompt's tokens as text. For messages: where the first user message begins (a
    system prompt serves many conversations), where the last one begins (its words are edited), and
    where the words that ask for the reply begin, or the last message's own words end where these
    cannot be told apart: a template that strips thinking from history diverges right there. For a
    raw prompt: a little before its end.
    """
    if not segments:
        return _apart([len(pieces) - BEFORE_END], len(pieces))
    starts = list(accumulate(map(len, pieces), initial=0))
    # Pieces are nearly the text: BOS may come before it, some vocabularies add or fold spaces. So
    # the first place is counted from the beginning, where little can differ, the others from the
    # end. A token too early or too late is no harm.
    whole = sum(len(segment.text.encode()) for segment in segments)
    first, last, asking = _offsets(segments)
    behind = starts[-1] - whole
    places = [bisect_right(starts, at) - 1 for at in (first, last + behind, asking + behind)]
    return _apart(places, len(pieces))


def _offsets(segments: Sequence[Segment]) -> tuple[int, int, int]:
    """Bytes of the rendered text before the places that matter."""
    first = last = asking = said = -1
    message: int | None = -1
    offset = 0
    for segment in segments:
        if segment.message != message:
            message = segment.message
            if message is None:
                asking = offset
            else:
                first = offset if first < 0 and message > 0 else first
                last = offset
        offset += len(segment.text.encode())
        if not segment.special:
            said = offset
    return first, last, asking if asking >= 0 else said


def _apart(places: Sequence[int], length: int) -> list[int]:
    found: list[int] = []
    for place in sorted(set(places), reverse=True):
        near = found and found[-1] - place < APART
        if 0 < place < length and not near:
            found.append(place)
    return found[::-1]


def add(points: Sequence[Checkpoint], new: Checkpoint) -> list[Checkpoint]:
    """`points` with `new`, at most MOST: the one that is nearest to its neighbours goes first."""
    kept = sorted(
        [point for point in points if point.end != new.end] + [new], key=lambda point: point.end
    )
    while len(kept) > MOST:
        lengths = [0, *(point.end for point in kept)]
        gaps = [lengths[place + 2] - lengths[place] for place in range(len(kept) - 1)]
        del kept[gaps.index(min(gaps))]
    return kept
