"""Which links may be opened at all: http and https with a host, nothing else, nothing hidden."""

from urllib.parse import urlsplit

from llmchat.text.cleaning import clean

LONGEST = 2048


def openable(href: str) -> bool:
    """Whether a link from a model may be offered to the browser."""
    if len(href) > LONGEST or clean(href) != href or any(c.isspace() for c in href):
        return False
    try:
        parts = urlsplit(href)
        host = parts.hostname
    except ValueError:
        return False
    # `https://bank.example@evil.example` reads as the bank: no user names.
    return parts.scheme in {"http", "https"} and bool(host) and "@" not in parts.netloc
