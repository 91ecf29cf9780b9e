"""The models service: what is on this disk, what is loaded, and opening one.

Owns the answers that faces ask for. Listing and resolving are synchronous and import neither an
event loop nor a database, so that `llmchat list` starts at once. Refuses downloads
(`core/downloads.py`) and reads no settings: it is handed values.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.errors import ConfigError, LlmchatError, ModelFileError, NotFound
from llmchat.library import finding, removal, shortnames
from llmchat.library.identities import Identities
from llmchat.library.library import Library
from llmchat.library.named import named, under_own_name
from llmchat.library.places import find_hub_cache, find_llama_cpp, find_lmstudio, find_ollama
from llmchat.library.removal import Removal
from llmchat.library.shortnames import ShortName
from llmchat.paths import Places
from llmchat.values import ModelFile, Wants

if TYPE_CHECKING:
    from llmchat.engine.protocol import WorkerStatus
    from llmchat.engine.session import Engine, OnProgress, Session
    from llmchat.library.found import Found
    from llmchat.library.headers import ModelDescription

__all__ = ["Models", "Removal"]


def _nobody() -> str | None:
    return None


class Models:
    """What is on this disk and what is loaded. Cheap to build; nothing is read until asked."""

    def __init__(
        self,
        *,
        places: Places,
        environ: Mapping[str, str],
        engine_factory: "Callable[[], Engine] | None" = None,
        aliases: Mapping[str, str] | None = None,
        folders: Sequence[Path] = (),
        default_model: str | None = None,
        last_used: Callable[[], str | None] = _nobody,
        own: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """Everything the service may know; `aliases` is looked at anew for each call.

        `own` gives the names that have settings of their own.
        `last_used` gives the name of the model that answered last, or None.
        """
        self.places = places
        self.environ = environ
        self._engine_factory = engine_factory
        self._engine: Engine | None = None
        self._aliases = {} if aliases is None else aliases
        self._folders = tuple(folders)
        self._default_model = default_model
        self._last_used = last_used
        self._own = own
        self._identities = Identities(places.cache / "identities.json")
        self.hub_cache = find_hub_cache(environ)

    @property
    def aliases(self) -> Mapping[str, str]:
        """The user's own names for models."""
        return self._aliases

    @property
    def shortnames(self) -> Mapping[str, ShortName]:
        """Words that stand for a model: ours, and the user's `shortnames.toml` over them.

        Raises:
            ConfigError: the user's file cannot be used.
        """
        return shortnames.table_of(self.places.config / "shortnames.toml")

    def list(self) -> list[ModelFile]:
        """Every runnable model on this disk, by name. Partial downloads are none.

        The user's own names are among them where they stand alone (`library/named.py`).
        """
        found = self._library().scan()
        found += named(found, self._aliases, self._own())
        found.sort(key=lambda model: model.name.casefold())
        models = [model for one in found if (model := self._listed(one)) is not None]
        self._identities.save()
        return models

    def starter(self) -> ShortName:
        """The small model that a machine without any is offered: its name and size, in bytes."""
        return shortnames.starter()

    def incomplete(self) -> "Sequence[Found]":
        """Models of several files of which some are not here: told beside the list, never run."""
        return self._library().incomplete()

    def resolve(self, ref: str) -> ModelFile:
        """The model that a name, alias, short name, unique part or path means.

        Raises:
            NotFound: none or several; the sentence lists the near names.
            UsageError: no reference at all. ModelFileError: a path to something else.
        """
        return self._file(self._find(ref))

    def default(self) -> ModelFile | None:
        """The configured default, else the last used, else the only one there is."""
        found = self._library().scan()
        for name in (self._default_model, self._last_used()):
            if name:
                try:
                    return self._file(self._find(name, found))
                except LlmchatError:
                    continue  # gone since: the next rule decides
        return self._file(found[0]) if len(found) == 1 else None

    def describe(self, model: ModelFile) -> "ModelDescription":
        """What the model's header says; remembered by its identity.

        Raises:
            ModelFileError: no GGUF, incomplete, or out of bounds.
        """
        from llmchat.library.headers import Headers

        return Headers(self.places.cache / "headers").describe(model)

    def plan_removal(self, ref: str, *, anywhere: bool = False) -> Removal:
        """What `remove` would free; `anywhere`: also where other programs keep their models.

        One of the user's own names is a plan of source `name`: the model stays, and whoever
        carries it out forgets the name (`core/importing.py`).

        Raises:
            NotFound: see `resolve`. ModelFileError: it lies in another program's store.
        """
        found = self._find_to_remove(ref)
        if found.name in self._aliases and not (anywhere and found.source == "file"):
            return removal.only_name(found.name)
        return removal.plan_removal(found, self.hub_cache, anywhere=anywhere)

    def remove(self, ref: str, *, anywhere: bool = False) -> Removal:
        """Take a model off the disk; says what that freed.

        Raises:
            NotFound, ModelFileError: see `plan_removal`.
        """
        plan = self.plan_removal(ref, anywhere=anywhere)
        self.carry_out(plan)
        return plan

    def carry_out(self, plan: Removal) -> None:
        """Do what `plan_removal` said.

        Raises:
            ModelFileError: the disk refuses.
        """
        removal.remove(plan, self.hub_cache)

    async def open(
        self, model: ModelFile, wants: Wants, on_progress: "OnProgress | None" = None
    ) -> "Session":
        """A session with a loaded model; see `Engine.open` for what it raises."""
        return await self._running().open(model, wants, on_progress)

    async def live(self) -> "Sequence[WorkerStatus]":
        """Every loaded model of this user."""
        return await self._running().live()

    async def stop(self, pid: int, force: bool = False) -> bool:
        """Unload one; False when it is busy and `force` is not set."""
        return await self._running().stop(pid, force=force)

    def _table(self) -> Mapping[str, ShortName]:
        """The short names that can be used; a listing does not fail over the user's file."""
        try:
            return self.shortnames
        except ConfigError:
            return shortnames.shipped()

    def _find(self, ref: str, found: "Sequence[Found] | None" = None) -> "Found":
        model = self._find_in(ref, self._library().scan() if found is None else found)
        return under_own_name(ref, model, self._aliases, self._own())

    def _find_to_remove(self, ref: str) -> "Found":
        """A set of shards that is not whole can go, too: it takes its space."""
        try:
            return self._find(ref)
        except NotFound:
            parts = [one for one in self.incomplete() if one.name.casefold() == ref.casefold()]
            if len(parts) != 1:
                raise
            return parts[0]

    def _find_in(self, ref: str, models: "Sequence[Found]") -> "Found":
        try:
            table = self.shortnames
        except ConfigError as problem:
            # A broken table stands in the way of the words in it, and of nothing else.
            try:
                return finding.find(ref, models, self._aliases, shortnames.shipped())
            except NotFound:
                raise problem from None
        return finding.find(ref, models, self._aliases, table)

    def _library(self) -> Library:
        return Library(
            hub_cache=self.hub_cache,
            lmstudio=find_lmstudio(self.environ),
            ollama=find_ollama(self.environ),
            llama_cpp=find_llama_cpp(self.environ),
            folders=self._folders,
            shortnames=self._table(),
            known=self._identities.is_gguf,
        )

    def _listed(self, found: "Found") -> ModelFile | None:
        """One line of a list: a file that cannot be read any more is left out."""
        try:
            return self._file(found)
        except ModelFileError:
            return None

    def _file(self, found: "Found") -> ModelFile:
        """What an engine needs to open it.

        Raises:
            ModelFileError: it cannot be read.
        """
        try:
            identity = found.identity(self._identities.of)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ModelFileError(
                "library.unreadable", path=found.paths[0], reason=reason
            ) from error
        return ModelFile(
            name=found.name,
            path=found.paths[0],
            identity=identity,
            size=found.size,
            shards=found.paths if len(found.paths) > 1 else (),
            projector=found.projector,
            source=found.source,
        )

    def _running(self) -> "Engine":
        if self._engine is None:
            if self._engine_factory is None:
                raise RuntimeError("this Models was built without an engine")
            self._engine = self._engine_factory()
        return self._engine
