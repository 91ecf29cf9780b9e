"""Several tokens in one decode, guessed from what the conversation already says.

Owns n-gram lookup (the words that followed the same words before), and how many of them are worth
a try: as many as make a token cheapest, by how often guesses were right and what rows cost lately.
No draft model, no llama.cpp, no clock. Refuses choosing tokens: every row is sampled by the
request's own chain in order, so what is written does not depend on what was guessed.
"""

from collections.abc import Sequence
from typing import Final

SIZES: Final = (3, 2)
"""Lengths of the last words that are looked up, the longer first."""
MOST: Final = 12
"""Tokens guessed at once."""
GAIN: Final = 1.05
"""A guess must promise at least this much, or it is left out: measuring is noisy."""
FIRST_CHANCE: Final = 0.6
"""How likely a guessed token is right before any was tried."""
FIRST_COST: Final = 0.35
"""What a further row costs of a step with one, before it was measured: a CPU's."""
FORGIVE: Final = 0.02
"""How much a chance or a cost goes back to the first with every guess that was not worth it."""


class Drafter:
    """One reply's guesses, and how often they were right."""

    def __init__(self) -> None:
        self.chance = FIRST_CHANCE
        self._after: tuple[dict[tuple[int, ...], int], ...] = tuple({} for _ in SIZES)
        """For each run of tokens, the place behind its last occurrence."""
        self._known = 0

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        """Up to `count` tokens that may follow `tokens`; none when the last words are new."""
        self._learn(tokens)
        for size, after in zip(SIZES, self._after, strict=True):
            place = after.get(tuple(tokens[-size:])) if len(tokens) > size else None
            if place is not None:
                return _run_from(tokens, place, count)
        return []

    def _learn(self, tokens: Sequence[int]) -> None:
        """The runs that ended before the last token; `tokens` only ever grows."""
        for end in range(max(1, self._known), len(tokens)):
            for size, after in zip(SIZES, self._after, strict=True):
                if end >= size:
                    after[tuple(tokens[end - size : end])] = end
        self._known = max(self._known, len(tokens))

    def observe(self, guessed: int, right: int) -> None:
        """Of `guessed` tokens the first `right` were what the model chose."""
        tried = min(guessed, right + 1)
        self.chance += 0.2 * (right / tried - self.chance) if tried else 0.0

    def forgive(self) -> None:
        """A guess was not worth it; after some of them it is tried again."""
        self.chance += FORGIVE * (FIRST_CHANCE - self.chance)


def _run_from(tokens: Sequence[int], place: int, count: int) -> list[int]:
    """What stands from `place` on; where that runs into the end, it is taken to repeat."""
    length = len(tokens) - place
    return [tokens[place + number % length] for number in range(count)]


class Costs:
    """Seconds of steps: with one row for each reply, and what every further row adds to that."""

    def __init__(self) -> None:
        self._plain: dict[int, float] = {}
        self._row = FIRST_COST
        """Of a plain step."""

    def observe(self, replies: int, guessed: int, seconds: float) -> None:
        """A step for `replies` with `guessed` tokens beside theirs took `seconds`."""
        plain = self._plain.get(replies)
        if not guessed:
            self._plain[replies] = seconds if plain is None else plain + 0.1 * (seconds - plain)
        elif plain:
            # A step that something else delayed must not count for more than a dear row.
            row = min(1.0, max(0.0, (seconds / plain - 1) / guessed))
            self._row += 0.2 * (row - self._row)

    def worth(self, replies: int, chance: float, most: int) -> int:
        """How many tokens to guess so that one becomes cheapest; 0 = none, or not known yet."""
        if replies not in self._plain or most < 1:
            return 0
        best, speed = 0, GAIN
        expected = power = 1.0
        # The other replies of a step wait for it, too: their tokens count as they are.
        for count in range(1, min(most, MOST) + 1):
            power *= chance
            expected += power
            now = (expected + replies - 1) / replies / (1 + count * self._row)
            if now > speed:
                best, speed = count, now
        return best

    def forgive(self) -> None:
        """A guess was not worth it: what rows cost was measured a while ago."""
        self._row += FORGIVE * (FIRST_COST - self._row)
