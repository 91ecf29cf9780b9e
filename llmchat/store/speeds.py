"""How fast each model wrote here, from the replies that were kept.

Owns one question over the newest generations. Refuses to measure anything: workers did.
"""

from collections import defaultdict
from statistics import median
from typing import Final

from msgspec import Struct

from llmchat.store import rows
from llmchat.store.database import Database
from llmchat.values import Generation

_NEWEST: Final = 1000
"""Replies looked at."""
_FEWEST: Final = 16
"""Tokens below which a reply says nothing about speed."""
_KEPT: Final = 25
"""The newest replies of each model that count: machines and settings change."""


class Speed(Struct, frozen=True, kw_only=True):
    """What a model's last replies were written at."""

    tokens_per_second: float
    """The median."""
    replies: int


def speeds(db: Database) -> dict[str, Speed]:
    """Speeds by model identity."""
    found: dict[str, list[float]] = defaultdict(list)
    for (record,) in db.read(
        "SELECT record FROM generation ORDER BY message DESC LIMIT ?", (_NEWEST,)
    ):
        made = rows.from_json(record, Generation)
        rate = _rate(made)
        if rate and len(found[made.identity]) < _KEPT:
            found[made.identity].append(rate)
    return {
        identity: Speed(tokens_per_second=round(median(rates), 2), replies=len(rates))
        for identity, rates in found.items()
        if identity and rates
    }


def _rate(made: Generation) -> float:
    tokens, seconds = made.usage.completion_tokens, made.timings.generation
    return (tokens - 1) / seconds if tokens >= _FEWEST and seconds > 0 else 0.0
