"""A real store in a temporary folder."""

from collections.abc import Callable, Iterator

import pytest

from llmchat.paths import Places
from llmchat.store.store import Store, open_store


@pytest.fixture
def reopen(places: Places) -> Iterator[Callable[[], Store]]:
    """Opens the same store again, as another process would; all are closed at the end."""
    opened: list[Store] = []

    def open_again() -> Store:
        opened.append(open_store(places.database, places.state / "writers", face="test"))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Store:
    """An empty store."""
    return reopen()
