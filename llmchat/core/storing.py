"""The store's own thread, how core waits for it, and where words go when the disk takes none.

SQLite calls block for as long as a disk takes. They run one after another on one thread, in the
order they were asked, so the event loop never waits and no two meet.

While the disk refuses (full, an error of its own, damaged) a conversation goes on in memory
(`store/aside.py`): whoever names it gets it from there, and `settle` writes it back. What cannot be
written back before the end is kept as a file wherever there is room.
"""

import asyncio
import functools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from llmchat.core.enclosing import Enclosing
from llmchat.core.exporting.formats import FORMATS
from llmchat.errors import NotFound, StoreError
from llmchat.store.aside import Aside, may_pass
from llmchat.store.blobs import Blobs
from llmchat.store.store import Store
from llmchat.text import say
from llmchat.values import Conversation
from llmchat.whole_file import write_whole

P = ParamSpec("P")
R = TypeVar("R")


class StoreThread:
    """A store on its thread."""

    def __init__(
        self,
        *,
        face: str = "",
        notice: Callable[[str], None] = lambda _: None,
        refuges: Sequence[Path] = (),
        blobs: Blobs | None = None,
    ) -> None:
        """`blobs`: where attached bytes lie; without them files carry their hashes alone."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._store: Store | None = None
        self._aside: Aside | None = None
        self._face = face
        self._notice = notice
        self._refuges = refuges
        self.blobs = blobs

    @property
    def store(self) -> Store:
        """The open store. Its methods are for `call` only."""
        assert self._store is not None, "the Runtime is not open"
        return self._store

    @property
    def is_open(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    @property
    def aside(self) -> Aside:
        """What the disk could not take; for `call` only, but for `held`."""
        assert self._aside is not None, "the Runtime is not open"
        return self._aside

    @property
    def held(self) -> tuple[str, ...]:
        """Ids of the conversations that go on in memory."""
        return self._aside.held if self._aside is not None else ()

    async def open(self, opener: Callable[[], Store]) -> Store:
        """Open the store on its thread."""
        self._store = await self.call(opener)
        self._aside = Aside(self._store, self._face)
        return self._store

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run something on the store's thread. It runs to its end even if we stop waiting."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._executor, functools.partial(function, *args, **kwargs)
        )

    async def about(self, id_: str, work: Callable[[Store], R]) -> R:
        """Run something with the store that has this conversation, or this message.

        When the disk refuses, the conversation is held in memory and `work` runs there: it must be
        one transaction, so that nothing of it is left from the first try.

        Raises:
            StoreError: the disk refuses for good, or the conversation cannot be read either.
        """
        return await self.call(self._about, id_, work)

    def _about(self, id_: str, work: Callable[[Store], R]) -> R:
        store = self.aside.where(id_)
        try:
            return work(store)
        except StoreError as error:
            if store is not self.store or not may_pass(error):
                raise
            try:
                memory = self.aside.hold(id_)
            except (NotFound, StoreError):
                raise error from None
            self._tell_held(error)
            return work(memory)

    async def make(self, about: str | None, work: Callable[[Store], Conversation]) -> Conversation:
        """Make a conversation, in memory when the disk refuses.

        `about`: the message that it begins as a copy of, if any.
        """
        return await self.call(self._make, about, work)

    def _make(self, about: str | None, work: Callable[[Store], Conversation]) -> Conversation:
        if about is not None:
            made = self._about(about, work)
            is_new = self.aside.where(about) is not self.store
        else:
            try:
                made, is_new = work(self.store), False
            except StoreError as error:
                if not may_pass(error):
                    raise
                made, is_new = work(self.aside.memory), True
                self._tell_held(error)
        if is_new:
            self.aside.new(made.id)
        return made

    def _tell_held(self, error: StoreError) -> None:
        self._notice(say("core.held", reason=error.sentence))

    async def settle(self) -> bool:
        """Write back what is held, if the disk takes it now. True: something is on it again."""
        if not self.held:
            return False
        return await self.call(self._settle)

    def _settle(self) -> bool:
        try:
            done = self.aside.settle()
        except StoreError:
            return False
        if done and not self.held:
            self._notice(say("core.settled"))
        return bool(done)

    def _rescue(self) -> None:
        """Write what is still held as a file that can be imported, wherever there is room."""
        form = FORMATS["json"]
        held = self.aside.saved()
        if self.blobs is not None:
            held = map(Enclosing(self.blobs).put_in, held)
        text = form.begin + form.between.join(map(form.one, held)) + form.end
        name = f"llmchat-unsaved-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.json"
        for folder in self._refuges:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write_whole(folder / name, text.encode())
            except OSError:
                continue
            self._notice(say("core.rescued", path=folder / name))
            return
        self._notice(say("core.not_rescued", count=len(self.held)))

    async def close(self) -> None:
        """Close the store after everything that was asked of it; what is held is kept first."""
        try:
            if self._store is not None:
                await self.settle()
                if self.held:
                    await self.call(self._rescue)
                await self.call(self.aside.close)
                await self.call(self._store.close)
        finally:
            self._store = None
            self._executor.shutdown()
