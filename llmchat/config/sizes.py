"""Sizes as people write them: `4 GiB`, `500 MB`, `0`."""

import re
from typing import Final

SIZE: Final = r"^(0|\d{1,9}(\.\d{1,3})? ?([KMGT]i?)?B)$"
"""What a size looks like: a number and its unit, decimal (GB) or binary (GiB)."""
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def in_bytes(size: str | int) -> int:
    """Bytes of what matches `SIZE`.

    Raises:
        ValueError: it is no size.
    """
    found = re.fullmatch(r"([\d.]+) ?([KMGT]?)(i?)B?", str(size))
    if found is None:
        raise ValueError(size)
    number, unit, binary = found.groups()
    base = 1024 if binary else 1000
    return round(float(number) * float(base ** _POWERS[unit]))
