"""What a search of the hub gives: plain values that faces may hold, and the orders there are.

Refuses any import that costs time: the command line loads this to know its own options.
"""

from typing import Final, Literal

from msgspec import Struct

Sort = Literal["best", "downloads", "likes", "updated", "created", "trending"]
SORTS: Final[dict[str, str]] = {
    "best": "", "downloads": "downloads", "likes": "likes", "updated": "lastModified",
    "created": "createdAt", "trending": "trendingScore",
}  # fmt: skip
"""Our words, and the hub's; "" leaves the order to the hub."""


class FoundModel(Struct, frozen=True, kw_only=True):
    """A repository that a search found. 0 and "" = the hub does not say."""

    repo: str
    downloads: int = 0
    """In the last 30 days."""
    likes: int = 0
    updated: float = 0.0
    """Seconds since 1970."""
    license: str = ""
    gated: bool = False
    """Its licence must be accepted on its page first."""
    private: bool = False
    parameters: int = 0
    architecture: str = ""
    n_ctx_train: int = 0
    capabilities: tuple[str, ...] = ()
    """Guesses from tags and template, in the words of `gguf.describe`."""


class Page(Struct, frozen=True, kw_only=True):
    """A part of what a search found. `next` asks for the following part; "" = there is none."""

    models: tuple[FoundModel, ...]
    next: str = ""
