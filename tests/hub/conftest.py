"""A hub on loopback, and a downloads service that asks it."""

import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from llmchat.core.downloads import DownloadPlan, Downloads, Progress
from llmchat.core.models import Models
from llmchat.hub.config import HubConfig
from llmchat.paths import Places
from llmchat.values import ModelFile
from tests.hub.server import Hub

SEED = int(os.environ.get("LLMCHAT_TORTURE_SEED", "20261"))
REPO = "o/model-GGUF"
FILE = "model-Q4_0.gguf"
REF = f"{REPO}:Q4_0"


@lru_cache(maxsize=8)
def gguf_bytes(size: int, seed: int = SEED) -> bytes:
    """A file that looks like a model from outside: its magic, then noise."""
    return b"GGUF" + hashlib.shake_128(b"%d" % seed).digest(size - 4)


class Site:
    """One user's llmchat, in front of one hub."""

    def __init__(
        self, hub: Hub, places: Places, cache: Path, environ: dict[str, str] | None = None, **config
    ) -> None:
        self.hub, self.cache = hub, cache
        self.environ = dict(os.environ) | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_CACHE": str(cache),
            **(environ or {}),
        }
        patience = {"backoff": 0.001, "max_backoff": 0.02, "read_timeout": 20.0} | config
        self.config = HubConfig(endpoint=hub.endpoint, **patience)
        self.models = Models(places=places, environ=self.environ)
        self.downloads = Downloads(
            places=places, environ=self.environ, models=self.models, config=self.config
        )
        self.stop = threading.Event()
        self.progress: list[Progress] = []

    def plan(self, ref: str = REF) -> DownloadPlan:
        return self.downloads.plan(ref)

    def pull(self, ref: str = REF) -> ModelFile:
        return self.downloads.pull(self.plan(ref), self.progress.append, self.stop)

    def parts(self) -> list[Path]:
        return sorted(self.cache.rglob("*.llmchat-part"))


def tell(line: str) -> None:
    """A figure of a test, for whoever runs it with -s."""
    sys.stdout.write(f"{line}\n")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def site(hub: Hub, places: Places, tmp_path: Path) -> Site:
    return Site(hub, places, tmp_path / "hf")
