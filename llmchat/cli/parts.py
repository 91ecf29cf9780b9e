"""The parts of core that commands use, built from this process's environment.

Listing commands build only what they need: `open_models` imports neither an event loop nor a
database, so that `llmchat list` starts at once.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llmchat.cli.output import note
from llmchat.core.models import Models
from llmchat.core.settings import SettingsService
from llmchat.paths import find_places
from llmchat.values import NOTHING_SET, ChatSettings

if TYPE_CHECKING:
    from llmchat.core.discovery import Discovery
    from llmchat.core.downloads import Downloads
    from llmchat.core.fitting import Fits
    from llmchat.core.importing import Importing
    from llmchat.core.runtime import Runtime

Result = TypeVar("Result")


def open_settings(*, quiet: bool = False) -> SettingsService:
    """The settings; what is wrong with the file is said on stderr, its good part is used."""
    settings = SettingsService(find_places(), os.environ)
    for problem in () if quiet else settings.problems:
        note(problem)
    return settings


def open_models(settings: SettingsService | None = None) -> Models:
    """The models on this disk. Without an engine: for what is loaded, open a Runtime."""
    settings = settings or SettingsService(find_places(), os.environ)
    return Models(
        places=find_places(),
        environ=os.environ,
        aliases=settings.aliases,
        folders=[Path(folder).expanduser() for folder in settings.folders],
        default_model=settings.layers().values.model,
        own=lambda: settings.settings.models,
    )


def open_importing() -> "Importing":
    """Names and files that the user brings."""
    from llmchat.core.importing import Importing

    settings = SettingsService(find_places(), os.environ)
    return Importing(open_models(settings), settings)


def open_downloads() -> "Downloads":
    """Plans and pulls."""
    from llmchat.core.downloads import Downloads

    return Downloads(places=find_places(), environ=os.environ, models=open_models())


def open_discovery() -> "Discovery":
    """Questions to the hub."""
    from llmchat.core.discovery import Discovery

    return Discovery(environ=os.environ, models=open_models())


def open_fits() -> "Fits":
    """Judgements of what fits this machine."""
    from llmchat.core.fitting import Fits
    from llmchat.engine.machine import find_devices

    discovery = open_discovery()
    return Fits(models=open_models(), devices=lambda: find_devices(os.environ), discovery=discovery)


def open_runtime(face: str, *, flags: ChatSettings = NOTHING_SET, save: bool = True) -> "Runtime":
    """Everything, to be entered with `async with`."""
    from llmchat.core.runtime import Runtime

    return Runtime(places=find_places(), face=face, environ=os.environ, flags=flags, save=save)


def ask_core(question: "Callable[[Runtime], Awaitable[Result]]") -> Result:
    """Open a Runtime for one question about the conversations."""
    import asyncio

    async def answered() -> Result:
        async with open_runtime("chats") as runtime:
            return await question(runtime)

    return asyncio.run(answered())
