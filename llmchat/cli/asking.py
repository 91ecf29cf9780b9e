"""One question to one model, without a conversation: the session that `embed` and its like need.

Owns choosing a model for it, opening that with a bar, and what to say when there is none.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from llmchat.cli.choosing import find_or_fetch
from llmchat.cli.parts import open_models, open_runtime
from llmchat.cli.progress import Bar
from llmchat.errors import NotFound
from llmchat.text import say
from llmchat.values import ChatSettings, ModelFile, Wants

if TYPE_CHECKING:
    from llmchat.core.runtime import Runtime
    from llmchat.engine.protocol import Loading, Plan
    from llmchat.engine.session import Session
    from llmchat.gguf.describe import Capability


def choose(ref: str | None, capability: "Capability") -> ModelFile:
    """The model that is named; without a name, the only one here that can do it.

    Raises:
        NotFound: there is none, or several, and nothing says which.
    """
    from llmchat.core.vectors import capable

    if ref:
        return find_or_fetch(ref)
    models = open_models()
    found = capable(models.list(), models.describe, capability)
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(f"cli.none_for_{capability}")
    raise NotFound("cli.several_models", names=", ".join(model.name for model in found))


async def loaded(runtime: "Runtime", model: ModelFile, wants: Wants) -> "Session":
    """A session with the model, loaded as wanted, behind a bar that says how far that is.

    Raises:
        EngineError: it cannot be loaded.
    """
    label = say("cli.loading", model=model.name)
    with Bar(label) as bar:

        def show(progress: "Plan | Loading") -> None:
            fraction = getattr(progress, "fraction", None)
            if fraction is not None:
                bar.share(label, fraction)

        runtime.forget_deaths(model)
        return await runtime.models.open(model, wants, show)


@asynccontextmanager
async def asking(model: ModelFile, flags: ChatSettings, face: str) -> "AsyncIterator[Session]":
    """A session with the model, loaded as its settings say; the worker lives on for its keep-alive.

    Raises:
        EngineError: it cannot be loaded.
    """
    async with open_runtime(face, flags=flags, save=False) as runtime:
        settings = runtime.settings.layers(model=model.name).values
        session = await loaded(runtime, model, settings.wants)
        try:
            if settings.keep_alive is not None:
                await session.keep_alive(settings.keep_alive)
            yield session
        finally:
            await session.aclose()
