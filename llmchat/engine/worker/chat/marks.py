"""Telling a conversation's words from the template's after both went through the template.

Owns the marks put into a message before rendering and read back after it. Two kinds, both single
characters of Unicode's private planes that occur nowhere in the conversation or the template:

- *Brackets* around each content, inside its leading and trailing white space, so that `trim` and
  `strip` do to it what they would do without them. They say which message a piece belongs to.
- *Stand-ins* for the characters that control tokens are written with. They say that a character
  came from outside wherever a template moves, cuts or repeats it, so that a `<|im_end|>` that
  somebody typed can never be read as the token, brackets or no brackets.

Refuses to know Jinja, roles and tokens.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

_DANGEROUS: Final = "<>[]|\uff5c\u2581"
"""Every control token of llama.cpp's collection holds one of these; the last two are DeepSeek's."""
_FIRST_PLANE: Final = 0xF0000
_PLANE: Final = 0x10000
_USABLE: Final = 0xFFF0
_END: Final = len(_DANGEROUS)
_STARTS: Final = 32
"""Offset of the first message's bracket; the stand-ins and the closing bracket lie before it."""
MAX_MESSAGES: Final = 0x4000


class Piece(NamedTuple):
    """A run of the rendered text.

    `content` is the message whose content it is; -1 = another text from outside; None = the
    template's own words.
    """

    text: str
    content: int | None


class Marks:
    """The marks of one rendering, on a base that no given text uses."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Find a free base.

        Raises:
            ValueError: none is free: the texts were made to use all private characters.
        """
        used = {
            ord(character)
            for text in texts
            if not text.isascii()
            for character in text
            if ord(character) >= _FIRST_PLANE
        }
        size = _STARTS + MAX_MESSAGES
        for base in (
            plane + offset
            for plane in (_FIRST_PLANE, _FIRST_PLANE + _PLANE)
            for offset in range(0, _USABLE - size, size)
        ):
            if not any(base <= code < base + size for code in used):
                break
        else:
            raise ValueError("no private characters are free")
        self._base = base
        self._hide = {ord(sign): chr(base + n) for n, sign in enumerate(_DANGEROUS)}
        self._show = {base + n: sign for n, sign in enumerate(_DANGEROUS)}
        self._end = chr(base + _END)
        first, last = chr(base + _STARTS), chr(base + size - 1)
        self._brackets = re.compile(f"([{self._end}{first}-{last}])")
        self._stand_ins = re.compile(f"([{chr(base)}-{chr(base + len(_DANGEROUS) - 1)}]+)")

    def hide(self, text: str) -> str:
        """`text` with stand-ins."""
        return text.translate(self._hide)

    def hide_all(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        """JSON `value` with stand-ins in every string but the keys, which templates look up."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, dict):
            return {key: self.hide_all(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide_all(item) for item in value]
        return value

    def wrap(self, index: int, text: str) -> str:
        """`text` of message `index` with stand-ins and brackets; white space alone stays bare."""
        core = text.strip()
        if not core or index >= MAX_MESSAGES:
            return self.hide(text)
        before = text[: len(text) - len(text.lstrip())]
        after = text[len(text.rstrip()) :]
        return f"{before}{chr(self._base + _STARTS + index)}{self.hide(core)}{self._end}{after}"

    def read(self, rendered: str) -> list[Piece]:
        """The rendered text in pieces, all marks gone.

        If a template cut through a content, so that brackets do not pair, no piece names a message
        and only the stand-ins are told apart.
        """
        return self._bracketed(rendered) or self._unbracketed(rendered)

    def plain(self, text: str) -> str:
        """`text` without marks."""
        return self._brackets.sub("", text).translate(self._show)

    def _bracketed(self, rendered: str) -> list[Piece] | None:
        pieces: list[Piece] = []
        message: int | None = None
        # Texts and brackets by turns, a text first.
        for place, part in enumerate(self._brackets.split(rendered)):
            if place % 2 == 0:
                if message is None:
                    pieces += self._unbracketed(part)
                elif part:
                    pieces.append(Piece(part.translate(self._show), message))
            elif (part == self._end) == (message is None):
                return None
            else:
                message = None if part == self._end else ord(part) - self._base - _STARTS
        return pieces if message is None else None

    def _unbracketed(self, rendered: str) -> list[Piece]:
        parts = self._stand_ins.split(self._brackets.sub("", rendered))
        return [
            Piece(part.translate(self._show), -1 if place % 2 else None)
            for place, part in enumerate(parts)
            if part
        ]
