"""Sizes, counts, ages and durations as a terminal shows them, and durations as people type them.

Decimal units (1 MB = 1,000,000 bytes), as ollama and the hub print them.
"""

import math
import re
import time

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def size(number: int) -> str:
    """Bytes in three digits: `98 MB`, `4.7 GB`."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            digits = 1 if unit != "B" and value < 9.95 else 0
            return f"{value:.{digits}f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def count(number: int) -> str:
    """A large number as models are called: `134.5M`; "" for none."""
    for unit, weight in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= weight:
            return f"{number / weight:.1f}{unit}"
    return str(number or "")


def span(seconds: float) -> str:
    """A length of time in its largest unit: `3 minutes`."""
    whole = max(0, int(seconds))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if whole >= length or unit == "second":
            units = whole // length
            return f"{units} {unit}" + ("" if units == 1 else "s")
    raise AssertionError("unreachable")


def ago(moment: float) -> str:
    """How long ago a moment of the clock was: `2 days ago`."""
    return f"{span(time.time() - moment)} ago"


def clock(seconds: float) -> str:
    """Time left, short: `0:07`, `1:02:09`; `-:--` when nobody knows."""
    if not math.isfinite(seconds) or seconds < 0 or seconds >= 360_000:
        return "-:--"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def parse_rate(text: str) -> float:
    """Bytes a second from `500K`, `2MiB`, `1.5M/s`, `1000`: powers of 1024, as curl and wget.

    Raises:
        ValueError: it is none of these, or nothing at all.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]?)(?:I?B)?(?:/S)?", text.strip().upper())
    if found is None or float(found[1]) <= 0:
        raise ValueError(text)
    return float(found[1]) * 1024.0 ** " KMG".index(found[2] or " ")


def parse_duration(text: str) -> float:
    """Seconds from `300`, `5m`, `1h30m`, `-1` (for ever).

    Raises:
        ValueError: it is none of these.
    """
    if re.fullmatch(r"-\d+(\.\d+)?[smhd]?", text):
        return -1.0
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd]?)+", text):
        raise ValueError(text)
    return sum(float(n) * _UNITS[unit] for n, unit in re.findall(r"([\d.]+)([smhd]?)", text))
