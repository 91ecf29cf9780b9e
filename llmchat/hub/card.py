"""A model card as text for a terminal: what its makers say, without what they could do to us.

Owns fetching `README.md` at a commit and making plain Markdown of it: no front matter, no HTML, no
images, links with their address in sight. Refuses to follow anything that the card names.
"""

import html
import re
from typing import Final
from urllib.parse import quote

from llmchat.errors import NotFound
from llmchat.hub.client import HubClient
from llmchat.hub.search import once
from llmchat.text.cleaning import clean

MOST: Final = 128 * 1024
"""Characters of a card that are kept; the longest are tables of benchmarks."""
_FRONT: Final = re.compile(r"\A\ufeff?---[ \t]*\r?\n.*?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_HIDDEN: Final = re.compile(r"<(script|style)\b[^<>]{0,2000}>.*?(?:</\1\s*>|\Z)", re.DOTALL | re.I)
_BREAK: Final = re.compile(r"</?(?:p|div|br|tr|table|ul|ol|h[1-6]|details|summary)\b[^<>]{0,2000}>",
                           re.I)  # fmt: skip
_ITEM: Final = re.compile(r"<li\b[^<>]{0,2000}>", re.I)
_TAG: Final = re.compile(r"</?[A-Za-z][^<>]{0,2000}>")
_IMAGE: Final = re.compile(r"!\[([^\[\]\n]{0,300})\]\([^()\n]{0,2000}\)")
_LINK: Final = re.compile(r"\[([^\[\]\n]{0,300})\]\(\s*(https?://[^\s()]{1,1000})[^()\n]{0,300}\)")
_ELSEWHERE: Final = re.compile(r"\[([^\[\]\n]{0,300})\]\([^()\n]{0,2000}\)")
_BLANK: Final = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")


def fetch_card(client: HubClient, repo: str, revision: str = "main") -> str:
    """The card of a repository as clean text.

    Raises:
        NotFound: no such repository, or it has no card. HubError: anything else.
    """
    tail = f"/{repo}/resolve/{quote(revision, safe='')}/README.md"
    try:
        body, _ = once(client, lambda: client.body(tail, repo))
    except NotFound as error:
        if error.key == "hub.no_file":
            raise NotFound("hub.no_card", repo=repo) from error
        raise
    return card_text(body.decode("utf-8", "replace"))


def card_text(markdown: str) -> str:
    """Markdown with HTML, as cards are written, as text that any terminal may show."""
    text = _FRONT.sub("", markdown[: 8 * MOST])
    text = _HIDDEN.sub("", _COMMENT.sub("", text))
    text = _IMAGE.sub(lambda found: f"(image: {found[1]})" if found[1].strip() else "", text)
    text = _LINK.sub(lambda found: f"{found[1]} ({found[2]})" if found[1].strip() else "", text)
    text = _ELSEWHERE.sub(r"\1", text)
    text = _TAG.sub("", _ITEM.sub("\n- ", _BREAK.sub("\n", text)))
    # What entities stand for is text from outside too: cleaned after they are resolved.
    text = clean(html.unescape(text)).strip()
    text = _BLANK.sub("\n\n", text)
    return text if len(text) <= MOST else text[:MOST].rstrip() + "\n…"
