"""A prompt as runs of text: which may hold control tokens, and which came from outside.

Owns the runs, and joining neighbours wherever that cannot turn somebody's words into a control
token. Refuses where runs come from (`template.py`), and tokens: the loop tokenizes them.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple


class Segment(NamedTuple):
    """A run of the prompt. `special`: control tokens in it are read as tokens."""

    text: str
    special: bool
    message: int | None
    """Index of the message it belongs to, with the template's words around it; None = what asks
    for the reply."""


def fuse(segments: Iterable[Segment], specials: Sequence[str]) -> list[Segment]:
    """`segments` with neighbours joined wherever that cannot turn words into control tokens.

    A tokenizer merges across a boundary (two line breaks are one token), so a prompt cut at every
    content is not quite what the model was trained on. `specials` are the texts of the
    vocabulary's control tokens: a content that holds none of them is joined with what surrounds it
    and read like the template's words; one that holds one stays apart. `message` is kept where all
    joined parts agree, else None.
    """
    controls = _controls(tuple(specials))
    fused: list[Segment] = []
    for segment in segments:
        safe = segment.special or not controls.within(segment.text)
        part = segment._replace(special=safe)
        before = fused[-1] if fused else None
        if before is None or not (safe and before.special):
            fused.append(part)
        elif not controls.meet(before.text, part.text):
            owner = before.message if before.message == part.message else None
            fused[-1] = Segment(before.text + part.text, True, owner)
        else:
            # Read together, they would make a token that neither of them holds.
            fused.append(segment)
    return fused


class _Controls:
    """The texts of a vocabulary's control tokens; thousands, so nothing loops over them."""

    def __init__(self, specials: Iterable[str]) -> None:
        self._texts = frozenset(special for special in specials if special)
        self._lengths = sorted({len(text) for text in self._texts})
        first = "".join(re.escape(sign) for sign in sorted({text[0] for text in self._texts}))
        self._first = re.compile(f"[{first}]" if first else r"(?!)")

    def within(self, text: str, *, across: int | None = None) -> bool:
        """Whether one occurs in `text`; if asked, one that lies across the place `across`."""
        for match in self._first.finditer(text):
            start = match.start()
            for length in self._lengths:
                if text[start : start + length] in self._texts and (
                    across is None or start < across < start + length
                ):
                    return True
        return False

    def meet(self, left: str, right: str) -> bool:
        """Whether one would begin in `left` and end in `right`."""
        reach = self._lengths[-1] if self._lengths else 0
        tail = left[max(0, len(left) - reach) :]
        return self.within(tail + right[:reach], across=len(tail))


@lru_cache(maxsize=2)
def _controls(specials: tuple[str, ...]) -> _Controls:
    return _Controls(specials)
