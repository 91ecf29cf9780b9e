"""The hub's search, held to GGUF models: page by page, each entry checked before it is believed.

Owns the question (`GET /api/models`, as huggingface_hub 2.4.0 asks it) and what we keep of each
answer. Refuses to try again: somebody waits at a terminal, so one try says whether the hub answers.
Texts are the hub's own: clean them where they are shown.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from llmchat.errors import HubError
from llmchat.hub.answers import bad_answer
from llmchat.hub.client import HubClient
from llmchat.hub.config import HubConfig
from llmchat.hub.found import SORTS, FoundModel, Page, Sort
from llmchat.hub.retry import Transient

MOST: Final = 100
"""Models on one page; the hub gives no more at once."""
_EXPAND: Final = (
    "downloads", "likes", "lastModified", "gated", "private", "tags", "pipeline_tag", "gguf",
)  # fmt: skip
_REPO: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_TEXT: Final = 100
"""Characters of a text that are kept."""
_VISION: Final = frozenset({"image-text-to-text", "image-to-text", "any-to-any"})
_EMBEDDING: Final = frozenset({"feature-extraction", "sentence-similarity"})

T = TypeVar("T")


class _Gguf(Struct):
    """`expand=gguf`: what the hub read from one of the repository's files."""

    total: int = 0
    architecture: str = ""
    context_length: int = 0
    chat_template: str = ""


class _Entry(Struct, rename="camel"):
    """One entry of the answer, as far as we ask for it."""

    id: str
    downloads: int = 0
    likes: int = 0
    last_modified: str = ""
    gated: bool | str = False
    private: bool = False
    tags: list[str] = []
    pipeline_tag: str | None = msgspec.field(default=None, name="pipeline_tag")
    gguf: _Gguf | None = None


def quick(config: HubConfig) -> HubConfig:
    """The same hub with a waiting person's patience: 5 s to connect, 10 s for an answer."""
    return replace(
        config,
        connect_timeout=min(5.0, config.connect_timeout),
        read_timeout=min(10.0, config.read_timeout),
    )


def once(client: HubClient, ask: Callable[[], T]) -> T:
    """One try, and a sentence when it fails.

    Raises:
        HubError: offline, unreachable, or too busy. Whatever else `ask` raises.
    """
    if client.config.offline:
        raise HubError("hub.search_offline")
    try:
        return ask()
    except Transient as problem:
        busy = problem.reason.startswith("HTTP")
        wait = f" ({problem.wait:.0f} s)" if problem.wait else ""
        raise HubError(
            "hub.busy" if busy else "hub.no_answer",
            recoverable=True,
            reason=problem.reason,
            wait=wait,
            endpoint=client.config.endpoint,
        ) from problem


def search(
    client: HubClient, words: str, *, sort: Sort = "best", limit: int = 20, after: str = ""
) -> Page:
    """One page of GGUF models for `words`; `after` is the `next` of the page before.

    Raises:
        HubError: offline, unreachable, busy, or an answer that cannot be.
    """
    tail = after or _question(words, sort, limit)
    if not tail.startswith("/api/models?"):
        raise bad_answer("Link", tail)
    body, following = once(client, lambda: client.body(tail, words))
    try:
        rows = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise bad_answer("JSON", error) from error
    found = (_model(row) for row in rows[:MOST])
    return Page(models=tuple(model for model in found if model), next=following or "")


def _question(words: str, sort: Sort, limit: int) -> str:
    pairs = [("search", words), ("filter", "gguf"), ("limit", str(max(1, min(limit, MOST))))]
    if SORTS[sort]:
        pairs.append(("sort", SORTS[sort]))
    pairs += [("expand", name) for name in _EXPAND]
    return f"/api/models?{urlencode([pair for pair in pairs if pair[1]])}"


def _model(row: msgspec.Raw) -> FoundModel | None:
    """An entry that can be what it says; None for one that cannot."""
    try:
        entry = msgspec.json.decode(row, type=_Entry)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not _REPO.fullmatch(entry.id) or ".." in entry.id or "--" in entry.id:
        return None
    gguf = entry.gguf or _Gguf()
    return FoundModel(
        repo=entry.id,
        downloads=_count(entry.downloads),
        likes=_count(entry.likes),
        updated=_moment(entry.last_modified),
        license=next((t[8:_TEXT] for t in entry.tags if t.startswith("license:")), ""),
        gated=bool(entry.gated),
        private=entry.private,
        parameters=_count(gguf.total),
        architecture=gguf.architecture[:_TEXT],
        n_ctx_train=_count(gguf.context_length),
        capabilities=_capabilities(entry, gguf.chat_template),
    )


def _count(number: int) -> int:
    return number if 0 <= number < 2**53 else 0


def _moment(text: str) -> float:
    try:
        return max(0.0, datetime.fromisoformat(text[:40]).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0.0


def _capabilities(entry: _Entry, template: str) -> tuple[str, ...]:
    kinds = {entry.pipeline_tag, *entry.tags}
    embedding = bool(kinds & _EMBEDDING)
    found = {
        "chat": (bool(template) or "conversational" in kinds) and not embedding,
        "thinking": any(sign in template for sign in ("think>", "THINK]", "|>analysis")),
        "tools": "tools" in template,
        "embedding": embedding,
        "rerank": "text-ranking" in kinds,
        "vision": bool(kinds & _VISION),
    }
    return tuple(name for name, there in found.items() if there)
