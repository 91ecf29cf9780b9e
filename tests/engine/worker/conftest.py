from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.values import Wants
from tests.engine.worker.driver import Driver


@pytest.fixture(scope="session")
def worker(starter: Path) -> Iterator[Driver]:
    """The starter, loaded once, on one thread; tests leave nothing running in it."""
    driver = Driver(starter, Wants(n_ctx=1024, n_threads=1))
    yield driver
    driver.close()
