"""The one boundary for text from outside: model output, file headers, hub answers, names, errors.

Owns making a string harmless to a terminal: control characters, escape sequences, bidi overrides,
invisible tags and lone surrogates become visible signs. Faces call it before anything is drawn,
printed or copied; storage keeps the raw text. A map of single characters without state on purpose:
a pattern for whole sequences fails when a sequence arrives in two pieces.
"""

import re

_BAD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
# ZWNJ, ZWJ and the variation selectors stay: Persian, Indic scripts and emoji need them.


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"<U+{code:04X}>"


def clean(text: str) -> str:
    """`text` with everything a terminal could act on made visible; newlines and tabs stay."""
    return _BAD.sub(_visible, text.replace("\r\n", "\n"))


def clean_line(text: str, limit: int | None = None) -> str:
    """One line: cleaned, white space folded to single spaces, cut to `limit` characters."""
    line = " ".join(clean(text).split())
    return line if limit is None or len(line) <= limit else line[: max(0, limit - 1)] + "…"


class StreamCleaner:
    """Cleans text that arrives in pieces: any split gives what `clean` gives for the whole."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """The cleaned piece; a last carriage return waits for what follows it."""
        text = self._held + piece
        self._held = "\r" if text.endswith("\r") else ""
        return clean(text[: len(text) - len(self._held)])

    def end(self) -> str:
        """What was held back."""
        rest, self._held = clean(self._held), ""
        return rest
