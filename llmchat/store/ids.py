"""Names for rows: ULIDs (github.com/ulid/spec), 26 characters that sort by time.

Ids only name. Order is `seq`, because clocks jump.
"""

import os
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O or U."""

LENGTH = 26
RANDOM_BYTES = 10


def new_id() -> str:
    """A fresh ULID: 48 bits of milliseconds and 80 random bits, never negative time."""
    return made_id(time.time(), os.urandom(RANDOM_BYTES))


def made_id(seconds: float, tail: bytes) -> str:
    """The ULID of a moment and ten bytes: the same words imported twice get the same name."""
    milliseconds = max(0, int(seconds * 1000)) & (2**48 - 1)
    number = milliseconds << 80 | int.from_bytes(tail[:RANDOM_BYTES], "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
