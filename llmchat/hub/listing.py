"""What a repository holds at one commit, asked with patience.

Owns the two questions that a plan needs. Refuses names that are one on some file systems.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from llmchat.errors import HubError
from llmchat.hub.answers import RepoFile, distinct
from llmchat.hub.client import HubClient
from llmchat.hub.retry import Patience, Transient

T = TypeVar("T")


def snapshot(client: HubClient, repo: str, revision: str) -> tuple[str, list[RepoFile]]:
    """The commit that `revision` means, and every file at it.

    Raises:
        NotFound: no such repository or revision. HubError: anything else.
    """
    if client.config.offline:
        raise HubError("hub.offline", repo=repo)
    commit = _patiently(client, lambda: client.commit(repo, revision))
    files = _patiently(client, lambda: client.files(repo, commit))
    models = [file for file in files if file.path.lower().endswith(".gguf")]
    if not distinct([file.path for file in models]):
        raise HubError("hub.bad_answer", what="file name", value=repo)
    return commit, models


def _patiently(client: HubClient, ask: Callable[[], T]) -> T:
    """Ask until it answers, three times at most: somebody waits for the plan."""
    config = replace(client.config, tries=min(3, client.config.tries))
    patience = Patience(config, threading.Event(), key="hub.unreachable")
    while True:
        try:
            return ask()
        except Transient as problem:
            patience.failed(problem)
