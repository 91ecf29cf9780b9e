"""The one place where the parts are put together, and taken apart again.

`async with Runtime(...)` opens the store, reads the settings and knows the engine; leaving it stops
the turns, saves what they have, lets go of the models and closes the store. No singletons: a
program, or a test, has as many as it makes.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from llmchat.config.profiles import told_once
from llmchat.core.attaching.attachments import Attachments
from llmchat.core.chats import Chats
from llmchat.core.downloads import Downloads
from llmchat.core.models import Models
from llmchat.core.replaying import Replays
from llmchat.core.savedstates import SavedStates
from llmchat.core.sessions import Sessions
from llmchat.core.settings import SettingsService
from llmchat.core.storing import StoreThread
from llmchat.core.sweeping import sweep
from llmchat.engine.session import Engine
from llmchat.paths import Places
from llmchat.store.blobs import Blobs
from llmchat.store.store import Store, memory_store, open_store
from llmchat.values import NOTHING_SET, ChatSettings, ModelFile

if TYPE_CHECKING:
    from llmchat.core.discovery import Discovery
    from llmchat.core.fitting import Fits
    from llmchat.store.speeds import Speed


class Runtime:
    """Everything that a face works with. `notices`: sentences that the user should see."""

    def __init__(
        self,
        *,
        places: Places,
        face: str,
        environ: Mapping[str, str],
        engine: Engine | None = None,
        flags: ChatSettings = NOTHING_SET,
        save: bool = True,
    ) -> None:
        self.notices: list[str] = []
        self._told = 0
        self._places = places
        self._face = face
        self._environ = environ
        self._save = save
        self._engine = engine
        self._last_model: str | None = None
        self._storage = StoreThread(
            face=face,
            notice=self.notices.append,
            refuges=_refuges(places, save),
            blobs=Blobs(places.blobs),
        )
        self.settings = SettingsService(places, environ, flags)
        self.settings.on_problem = told_once(self.notices.append)
        self.models = build_models(
            places, environ, self.settings, self._running_engine, lambda: self._last_model
        )
        self.downloads = Downloads(places=places, environ=environ, models=self.models)
        self._sessions = Sessions(self.models)
        self.chats = Chats(
            self._storage,
            self.models,
            self._sessions,
            self.settings,
            face=face,
            notice=self.notices.append,
            used=self._note_model,
            asked=self._forget_deaths_by_hand,
            states=SavedStates(places),
        )
        self.attachments = Attachments(places.blobs)
        self.replays = Replays(self._storage, self.models, self._sessions)

    async def __aenter__(self) -> Self:
        """Open the store; whatever state it is in, there is one afterwards."""
        store = await self._storage.open(self._open_store)
        self._last_model = await self._storage.call(store.last_model)
        self.notices += [*self.settings.problems, *store.notices]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the turns, save what they have, let go of the models, close the store."""
        self.attachments.close()
        try:
            await self.chats.aclose()
        finally:
            try:
                await asyncio.to_thread(self.downloads.close)
                await self._sessions.aclose()
                if self._engine is not None:
                    await self._engine.aclose()
            finally:
                try:
                    await self._sweep()
                finally:
                    await self._storage.close()

    async def _sweep(self) -> None:
        """Delete attached bytes that nothing refers to: once a day, and after a purge."""
        if self._save and self._storage.is_open:
            drafts = self._places.drafts
            await self._storage.call(sweep, self._storage, drafts, now=self.chats.purged)

    def news(self) -> list[str]:
        """The notices since this was last asked; there may be some more after the end."""
        fresh, self._told = self.notices[self._told :], len(self.notices)
        return fresh

    @cached_property
    def discovery(self) -> "Discovery":
        """Questions to the hub; nothing of it is loaded before the first."""
        from llmchat.core.discovery import Discovery

        return Discovery(environ=self._environ, models=self.models)

    @cached_property
    def fits(self) -> "Fits":
        """Judgements of what fits this machine."""
        from llmchat.core.fitting import Fits
        from llmchat.engine.machine import find_devices

        return Fits(
            models=self.models,
            devices=lambda: find_devices(self._environ),
            discovery=self.discovery,
        )

    async def speeds(self) -> "dict[str, Speed]":
        """How fast each model wrote here, by its identity: what was measured, not guessed."""
        from llmchat.store.speeds import speeds

        return await self._storage.call(speeds, self._storage.store.db)

    def _open_store(self) -> Store:
        if not self._save:
            return memory_store(self._face)
        return open_store(self._places.database, self._places.state / "writers", face=self._face)

    def _running_engine(self) -> Engine:
        if self._engine is None:
            # Sockets and processes: what a listing of conversations never needs.
            from llmchat.engine.client.engine import LocalEngine

            self._engine = LocalEngine(
                self._places,
                face=self._face,
                environ=self._environ,
                kv_budget=self.settings.kv_cache_disk if self._save else None,
            )
        return self._engine

    def forget_deaths(self, model: ModelFile) -> None:
        """Somebody asks for this model by hand: that it kept dying no longer stands in the way."""
        self._running_engine().forget_deaths(model)

    def _forget_deaths_by_hand(self, model: ModelFile) -> None:
        if self._face == "tui":  # every message there is sent by hand; a script may run in a loop
            self.forget_deaths(model)

    def _note_model(self, name: str) -> None:
        self._last_model = name


def _refuges(places: Places, save: bool) -> list[Path]:
    """Folders, perhaps on other disks, for what the store's disk does not take at the end."""
    if not save:
        return []
    return [places.data, places.state, places.cache, Path.home(), Path(tempfile.gettempdir())]


def build_models(
    places: Places,
    environ: Mapping[str, str],
    settings: SettingsService,
    engine: Callable[[], Engine] | None = None,
    last_used: Callable[[], str | None] = lambda: None,
) -> Models:
    """The models service with what the settings say; enough alone for a listing."""
    return Models(
        places=places,
        environ=environ,
        engine_factory=engine,
        aliases=settings.aliases,
        folders=[Path(folder).expanduser() for folder in settings.folders],
        default_model=settings.layers().values.model,
        last_used=last_used,
        own=lambda: settings.settings.models,
    )
