"""Vectors of many texts, request by request, and which models make them.

Owns how much one request carries, so that a frame never gets too large and the first vectors are
there early. Refuses printing.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Final

from llmchat.engine.protocol import Embedded
from llmchat.engine.session import Session
from llmchat.errors import ModelFileError
from llmchat.gguf.describe import Capability
from llmchat.library.headers import ModelDescription
from llmchat.values import ModelFile

MOST_TEXTS: Final = 256
MOST_BYTES: Final = 16 << 20
"""Of vectors and of text in one request; a frame holds 64 MiB."""

OnShare = Callable[[float], None]
"""Is told the share that is done, 0 to 1."""


async def embed(
    session: Session,
    texts: Sequence[str],
    *,
    truncate: bool = False,
    normalize: bool = True,
    on_share: OnShare | None = None,
) -> AsyncGenerator[Embedded, None]:
    """The vectors of `texts`, in order, some at a time.

    Raises:
        GenerationFailed: the model makes none, or a text is too long and not to be cut.
    """
    done = 0
    for part in parts(texts, session.facts.n_embd):

        def count(now: int, _of: int, before: int = done) -> None:
            if on_share is not None:
                on_share((before + now) / len(texts))

        yield await session.embed(
            part, truncate=truncate, normalize=normalize, first=done + 1, on_progress=count
        )
        done += len(part)


def parts(texts: Sequence[str], n_embd: int) -> list[list[str]]:
    """The texts in requests that fit into frames."""
    most = max(1, min(MOST_TEXTS, MOST_BYTES // (4 * max(1, n_embd))))
    found: list[list[str]] = []
    size = 0
    for text in texts:
        length = len(text.encode("utf-8", "replace"))
        if not found or len(found[-1]) >= most or size + length > MOST_BYTES:
            found.append([])
            size = 0
        found[-1].append(text)
        size += length
    return found


def capable(
    models: Iterable[ModelFile],
    describe: Callable[[ModelFile], ModelDescription],
    capability: Capability,
) -> list[ModelFile]:
    """The models whose header says that they can do it; files that cannot be read are left out."""
    found = []
    for model in models:
        try:
            if capability in describe(model).about.capabilities:
                found.append(model)
        except ModelFileError:
            continue
    return found
