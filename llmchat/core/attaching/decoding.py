"""From bytes to text, whatever encoding they are in; or the verdict that they are no text.

A byte order mark decides, then strict UTF-8, then UTF-16 by where its zeros are; what has only a
few accents is cp1252, for the rest statistics decide (charset-normalizer). Text with more than
a few control characters is none.
"""

import codecs
import re
from typing import NamedTuple

BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

SAMPLE = 64 * 1024
"""Bytes that the statistics look at."""

MOST_CONTROLS = 0.02
"""Share of control characters above which something is no text."""

MOST_ACCENTS = 0.2
"""Share of bytes above 127 below which text is Western: statistics need more than a few accents."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


class Decoded(NamedTuple):
    """Text and the encoding it was in."""

    text: str
    encoding: str


def decode(data: bytes) -> Decoded | None:
    """The text in `data`; None if it is none."""
    for mark, encoding in BOMS:
        if data.startswith(mark):
            return _checked(data[len(mark) :].decode(encoding, "replace"), encoding)
    try:
        return _checked(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        pass
    if b"\0" in data[:SAMPLE]:
        return _wide(data)
    return _guessed(data)


def _checked(text: str, encoding: str) -> Decoded | None:
    sample = text[:SAMPLE]
    if "\0" in sample and "\0" in sample.strip("\0"):
        return None
    controls = len(_CONTROL.findall(sample))
    return None if controls > len(sample) * MOST_CONTROLS else Decoded(text, encoding)


def _wide(data: bytes) -> Decoded | None:
    """UTF-16 without a mark: zeros at nearly all odd or nearly all even places of Latin text."""
    sample = data[:SAMPLE]
    for encoding, first, other in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        zeros, elsewhere = sample[first::2].count(0), sample[other::2].count(0)
        if zeros > len(sample) // 4 and elsewhere < zeros // 50 + 1:
            return _checked(data.decode(encoding, "replace"), encoding)
    return None


def _guessed(data: bytes) -> Decoded | None:
    high = sum(byte > 127 for byte in data[:SAMPLE])
    if high < len(data[:SAMPLE]) * MOST_ACCENTS:
        return _checked(data.decode("cp1252", "replace"), "cp1252")
    from charset_normalizer import from_bytes  # only for what is no UTF-8

    found = from_bytes(data[:SAMPLE]).best()
    if found is None:
        return None
    return _checked(data.decode(found.encoding, "replace"), found.encoding)
