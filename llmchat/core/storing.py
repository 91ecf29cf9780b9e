"""The store's own thread, and how core waits for it.

SQLite calls block for as long as a disk takes. They run one after another on one thread, in the
order they were asked, so the event loop never waits and no two meet.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from llmchat.store.store import Store

P = ParamSpec("P")
R = TypeVar("R")


class StoreThread:
    """A store on its thread."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The open store. Its methods are for `call` only."""
        assert self._store is not None, "the Runtime is not open"
        return self._store

    async def open(self, opener: Callable[[], Store]) -> Store:
        """Open the store on its thread."""
        self._store = await self.call(opener)
        return self._store

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run something on the store's thread. It runs to its end even if we stop waiting."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._executor, functools.partial(function, *args, **kwargs)
        )

    async def close(self) -> None:
        """Close the store after everything that was asked of it."""
        try:
            if self._store is not None:
                await self.call(self._store.close)
        finally:
            self._store = None
            self._executor.shutdown()
