"""The tests' hub: `GET /api/models`, as the real one answers it: words, filters, order, pages.

The real hub pages with an opaque cursor in `Link`; so does this one.
"""

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode

if TYPE_CHECKING:
    from tests.hub.server import Hub

_SORTS = {"downloads", "likes", "lastModified", "createdAt", "trendingScore"}
_ALWAYS = ("_id", "id", "modelId")


def facts_of(hub: "Hub", repo: str) -> dict[str, object]:
    """Everything that the hub says of a repository; `hub.facts` overrides."""
    has_gguf = any(name.lower().endswith(".gguf") for name in hub.repos[repo])
    return {
        "_id": repo.encode().hex()[:24],
        "id": repo,
        "modelId": repo,
        "downloads": 0,
        "likes": 0,
        "lastModified": "2026-09-01T12:00:00.000Z",
        "createdAt": "2026-08-01T12:00:00.000Z",
        "trendingScore": 0,
        "gated": False,
        "private": False,
        "tags": ["gguf"] if has_gguf else [],
        **hub.facts.get(repo, {}),
    }


def found(hub: "Hub", query: str) -> tuple[list[dict[str, object]], str | None]:
    """One page of repositories, and the query of the next."""
    asked = parse_qs(query)
    words = asked.get("search", [""])[0].lower().split()
    filters = asked.get("filter", [])
    rows = [
        facts
        for facts in (facts_of(hub, repo) for repo in hub.repos)
        if all(word in str(facts["id"]).lower() for word in words)
        and all(wanted in facts["tags"] for wanted in filters)  # type: ignore[operator]
    ]
    sort = asked.get("sort", [""])[0]
    if sort in _SORTS:
        rows.sort(key=lambda facts: facts.get(sort, 0), reverse=True)  # type: ignore[arg-type, return-value]
    limit = int(asked.get("limit", ["1000"])[0])
    start = int(bytes.fromhex(asked["cursor"][0]) if "cursor" in asked else 0)
    page = rows[start : start + limit]
    following = None
    if start + limit < len(rows):
        cursor = str(start + limit).encode().hex()
        following = urlencode({**asked, "cursor": [cursor]}, doseq=True)
    wanted = asked.get("expand")
    if wanted:
        keep = {*_ALWAYS, *wanted}
        page = [{key: value for key, value in row.items() if key in keep} for row in page]
    return page, following
