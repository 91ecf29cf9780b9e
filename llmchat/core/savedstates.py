"""What models have read and kept on disk (`engine/disk/`), as faces and conversations see it.

Owns asking and clearing; refuses to know what is in the files. A folder that cannot be used is a
cache that is not there: nobody is kept from deleting a conversation by it.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from llmchat.errors import ConfigError
from llmchat.paths import Places

if TYPE_CHECKING:
    from llmchat.engine.disk import Folder, Kept


class SavedStates:
    """`<cache>/kv/` of this user."""

    def __init__(self, places: Places) -> None:
        self._path = places.kv

    def kept(self) -> "Kept":
        """Its place, size and budget."""
        return self._folder().kept()

    def clear(self) -> None:
        """Remove everything.

        Raises:
            ConfigError, OSError: the folder cannot be used.
        """
        self._folder().clear()

    async def forget(self, conversation: str) -> None:
        """A conversation was deleted: what only it said goes, and is not saved any more."""
        await self._try(lambda folder: folder.forget(conversation))

    async def allow(self, conversation: str) -> None:
        """It is there again."""
        await self._try(lambda folder: folder.allow(conversation))

    async def _try(self, do: "Callable[[Folder], None]") -> None:
        if self._path.is_dir():
            with suppress(OSError, ConfigError):
                await asyncio.to_thread(do, self._folder())

    def _folder(self) -> "Folder":
        from llmchat.engine.disk import Folder  # not for programs that never ask

        return Folder(self._path)
