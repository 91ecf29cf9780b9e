"""How a scripted worker reads: a token is a word with the white space before it.

Owns what is a token, its number and its text, the words of a prompt, and the answers that follow
from these alone: counts, renderings, tokens. Refuses replies (`writing.py`) and vectors
(`vectors.py`). Pure: the same words have the same answer everywhere and always.
"""

import zlib
from typing import Final

from llmchat.engine.protocol import (
    Count,
    Counted,
    Messages,
    Prompt,
    RawText,
    Render,
    Rendered,
    Tokenize,
    Tokenized,
)

N_VOCAB: Final = 1 << 16
"""Token ids lie below this."""
VOCAB: Final = "scripted"
"""The name that ids are given with, so that nobody takes them for another vocabulary's."""


def tokens_of(text: str) -> list[str]:
    """Words, each with the white space before it; joined they are the text."""
    pieces: list[str] = []
    piece = ""
    for before, character in zip(" " + text, text, strict=False):
        if character.isspace() and not before.isspace() and piece:
            pieces.append(piece)
            piece = ""
        piece += character
    return [*pieces, piece] if piece else pieces


def number(piece: str) -> int:
    """A token id for a piece: the same everywhere and always."""
    return zlib.crc32(piece.encode(errors="replace")) % N_VOCAB


def texts_of(prompt: Prompt) -> list[str]:
    """What is to be read, a text for each message."""
    if isinstance(prompt, Messages):
        return [message.content for message in prompt.messages]
    return [prompt.text] if isinstance(prompt, RawText) else [" x" * len(prompt.tokens)]


def count_of(prompt: Prompt) -> list[int]:
    """Tokens of each message."""
    return [len(tokens_of(text)) for text in texts_of(prompt)]


def last_user(prompt: Prompt) -> str:
    """The last words of the user, which a reply answers; of a raw prompt all of it."""
    if not isinstance(prompt, Messages):
        return texts_of(prompt)[-1]
    said = (message.content for message in reversed(prompt.messages) if message.role == "user")
    return next(said, "")


def answer(work: Count | Render | Tokenize) -> Counted | Rendered | Tokenized:
    """What can be said of words without writing any."""
    if isinstance(work, Count):
        counts = tuple(count_of(work.prompt))
        return Counted(id=work.id, tokens=sum(counts), messages=counts)
    if isinstance(work, Render):
        text = "\n".join(texts_of(work.prompt))
        return Rendered(id=work.id, text=text, tokens=tuple(map(number, tokens_of(text))))
    pieces = tokens_of(work.text)
    return Tokenized(
        id=work.id,
        tokens=tuple(map(number, pieces)),
        pieces=tuple(piece.encode() for piece in pieces),
    )
