"""What a repository holds at one commit, asked with patience.

Owns the two questions that a plan needs. Refuses names that are one on some file systems.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from llmchat.errors import HubError
from llmchat.hub.answers import RepoFile, distinct
from llmchat.hub.client import HubClient
from llmchat.hub.config import HubConfig
from llmchat.hub.retry import Patience, Transient
from llmchat.hub.stopping import stoppable

T = TypeVar("T")

ASK_TRIES = 2
ASK_CONNECT = 5.0
ASK_READ = 15.0
"""Somebody waits for a plan: a hub that cannot be reached is told within 11 seconds."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository at one commit."""

    repo: str
    """Its name now, which may be another than was asked for."""
    commit: str
    files: list[RepoFile]
    """The GGUF files whose names and sizes we accept."""


def impatient(config: HubConfig) -> HubConfig:
    """The configuration for questions that somebody waits for."""
    return replace(
        config,
        tries=min(ASK_TRIES, config.tries),
        connect_timeout=min(ASK_CONNECT, config.connect_timeout),
        read_timeout=min(ASK_READ, config.read_timeout),
    )


def snapshot(client: HubClient, repo: str, revision: str, stop: threading.Event) -> Snapshot:
    """What `revision` means, and every model file at it.

    Raises:
        NotFound: no such repository or revision. HubError: anything else. Interrupted: stopped.
    """
    if client.config.offline:
        raise HubError("hub.offline", repo=repo)
    info = _patiently(client, stop, lambda: client.revision(repo, revision))
    files = _patiently(client, stop, lambda: client.files(info.id, info.sha))
    models = [file for file in files if file.path.lower().endswith(".gguf")]
    if not distinct([file.path for file in models]):
        raise HubError("hub.bad_answer", what="file name", value=repo)
    return Snapshot(info.id, info.sha, models)


def _patiently(client: HubClient, stop: threading.Event, ask: Callable[[], T]) -> T:
    """Ask until it answers, a few times at most."""
    patience = Patience(client.config, stop, key="hub.unreachable")
    while True:
        try:
            return stoppable(ask, stop)
        except Transient as problem:
            patience.failed(problem)
