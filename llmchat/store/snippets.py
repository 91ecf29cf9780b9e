"""The words around a match, with the matches marked.

FTS5's own `snippet()` takes time that grows with the square of the matches in a message: two
minutes for a log of 5 MB that was pasted. This stops at the first match. Words are FTS5's
(unicode61 with remove_diacritics 2: runs of letters and digits, without case and accents).
"""

import re
import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

MATCH_START, MATCH_END = "\x01", "\x02"
"""Around each match: characters that cleaned text never holds."""

BEFORE, TOKENS = 6, 24
"""Words shown before the first match, and in all."""
_LONGEST = 400
"""Characters before or after the match at most: a word may be as long as its author likes."""

_TOKEN = re.compile(r"[^\W_]+")


def fold(word: str) -> str:
    """A word without case and accents."""
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word)
    return "".join(c for c in plain if not unicodedata.combining(c)).lower()


class Sought:
    """What is looked for: `words`, and the beginning of a last one."""

    def __init__(self, terms: Sequence[str], *, is_open: bool) -> None:
        tokens = [fold(token) for term in terms for token in _TOKEN.findall(term)]
        self._beginning = tokens[-1] if tokens and is_open else None
        self._words = frozenset(tokens)

    def matches(self, word: str) -> bool:
        """Whether a word of the text is one of those."""
        folded = fold(word)
        if folded in self._words:
            return True
        return self._beginning is not None and folded.startswith(self._beginning)


def snippet(text: str, sought: Sought) -> str:
    """The surroundings of the first match on a stretch of `text`; its beginning without one."""
    tokens = _TOKEN.finditer(text)
    before: deque[re.Match[str]] = deque(maxlen=BEFORE)
    first = _advance(tokens, before, sought)
    if first is None:
        return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    window = [*before, first, *islice(tokens, TOKENS - len(before) - 1)]
    is_last = next(tokens, None) is None
    start = window[0].start() if len(before) == BEFORE else 0
    end = len(text) if is_last else window[-1].end()
    start, end = max(start, first.start() - _LONGEST), min(end, first.end() + _LONGEST)
    return _marked(text, window, start, end, sought)


def _advance(
    tokens: Iterator[re.Match[str]], before: deque[re.Match[str]], sought: Sought
) -> re.Match[str] | None:
    """The first token that matches; those right before it are left in `before`."""
    for token in tokens:
        if sought.matches(token.group()):
            return token
        before.append(token)
    return None


def _marked(
    text: str, window: Sequence[re.Match[str]], start: int, end: int, sought: Sought
) -> str:
    pieces: list[str] = ["…"] if start > 0 else []
    place = start
    for token in window:
        if token.start() < place or token.end() > end or not sought.matches(token.group()):
            continue
        pieces += [text[place : token.start()], MATCH_START, token.group(), MATCH_END]
        place = token.end()
    pieces.append(text[place:end])
    if end < len(text):
        pieces.append("…")
    return "".join(pieces)
