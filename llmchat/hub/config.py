"""Which hub, with whose token: the environment that Hugging Face's own tools honour.

Owns HF_ENDPOINT, HF_TOKEN and the stored login, HF_HUB_OFFLINE and the time-outs. Refuses to send
anything over plain HTTP to another machine. A token leaves this module only inside `HubConfig`,
whose repr hides it.
"""

import configparser
import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from llmchat.errors import ConfigError

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = {"1", "ON", "YES", "TRUE"}
_REFRESH_MARGIN = 300.0
"""Seconds before its end at which an OAuth login is renewed (huggingface_hub's own margin)."""


@dataclass(frozen=True, slots=True)
class HubConfig:
    """Where to ask and how patiently."""

    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)
    offline: bool = False
    connect_timeout: float = 10.0
    """Seconds."""
    read_timeout: float = 20.0
    """Seconds without a byte before the connection counts as stalled."""
    tries: int = 8
    """Tries in a row without a new byte before giving up."""
    backoff: float = 0.5
    """Seconds before the second try; doubles up to `max_backoff`."""
    max_backoff: float = 8.0
    connections: int = 4
    """Most connections that fetch one file."""
    step: int = 16 * 1024 * 1024
    """Bytes that each of several connections claims at a time: the first hole stays near."""
    fast: float = 60e6
    """Bytes a second above which no other connection joins."""
    grow_after: float = 1.0
    """Seconds between two looks at whether another one should."""


def find_config(environ: Mapping[str, str]) -> HubConfig:
    """The hub this user's environment names.

    Raises:
        ConfigError: HF_ENDPOINT is no address, or plain HTTP to another machine.
    """
    endpoint = (environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    address = urlsplit(endpoint)
    if address.scheme not in ("http", "https") or not address.hostname or address.username:
        raise ConfigError("hub.bad_endpoint", endpoint=endpoint)
    if address.scheme == "http" and not is_loopback(address.hostname):
        raise ConfigError("hub.insecure_endpoint", endpoint=endpoint)
    offline = environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or ""
    return HubConfig(
        endpoint=endpoint,
        token=find_token(environ),
        offline=offline.upper() in _TRUE,
        read_timeout=_seconds(environ.get("HF_HUB_DOWNLOAD_TIMEOUT"), 20.0),
    )


def is_loopback(host: str) -> bool:
    """True for `localhost` and the loopback addresses, written plainly."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _seconds(text: str | None, default: float) -> float:
    try:
        return min(600.0, max(1.0, float(text or default)))
    except ValueError:
        return default


def find_token(environ: Mapping[str, str]) -> str | None:
    """The user's token: HF_TOKEN, else the stored login, renewed when it is about to end."""
    named = environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN")
    if named:
        return _clean(named)
    if (environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN") or "").upper() in _TRUE:
        return None
    path = _token_path(environ)
    try:
        token = _clean(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    if token and _about_to_end(path.with_name("stored_tokens"), token):
        from huggingface_hub import get_token  # knows how to renew an OAuth login

        return get_token()
    return token


def _clean(token: str) -> str | None:
    token = token.strip()
    return token if token and token.isascii() and token.isprintable() else None


def _token_path(environ: Mapping[str, str]) -> Path:
    named = environ.get("HF_TOKEN_PATH")
    if named:
        return Path(named).expanduser()
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = environ.get("HF_HOME") or f"{cache}/huggingface"
    return Path(home).expanduser() / "token"


def _about_to_end(stored: Path, token: str) -> bool:
    """Whether the login's file says that `token` ends within minutes."""
    table = configparser.ConfigParser(interpolation=None)
    try:
        table.read(stored, encoding="utf-8")
        for name in table.sections():
            if table[name].get("hf_token") == token and "expires_at" in table[name]:
                return float(table[name]["expires_at"]) - time.time() < _REFRESH_MARGIN
    except (OSError, ValueError, configparser.Error):
        return False
    return False
