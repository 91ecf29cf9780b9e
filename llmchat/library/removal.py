"""Taking a model off the disk: what that frees, said first.

Owns removing a model from the shared Hugging Face cache: its links, and the blobs that no other
link needs. Refuses every other store: those files are other programs' or the user's own.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from llmchat.errors import ModelFileError
from llmchat.library.found import Found


@dataclass(frozen=True, slots=True)
class Removal:
    """What removing a model does."""

    name: str
    freed: int
    """Bytes that the disk gets back."""
    links: tuple[str, ...]
    """Snapshot entries to unlink."""
    blobs: tuple[str, ...]
    """Contents that nothing else refers to."""


def plan_removal(model: Found, cache: Path) -> Removal:
    """What `remove` would do.

    Raises:
        ModelFileError: it lies in a store that is not ours to clean.
    """
    if model.source != "huggingface":
        raise ModelFileError("library.not_ours", name=model.name, path=model.paths[0])
    folder = _repository(Path(model.paths[0]), cache)
    targets = {os.path.realpath(path) for path in model.paths}
    doomed, kept = _links(folder, targets)
    if model.projector:
        eye = os.path.realpath(model.projector)
        if not _models_left(kept):
            targets.add(eye)
            doomed, kept = _links(folder, targets)
    freed = sum(os.stat(target).st_size for target in targets)
    return Removal(
        name=model.name, freed=freed, links=tuple(sorted(doomed)), blobs=tuple(sorted(targets))
    )


def _repository(path: Path, cache: Path) -> Path:
    return cache / path.relative_to(cache).parts[0]


def _links(folder: Path, targets: set[str]) -> tuple[list[str], list[str]]:
    """Snapshot entries that lead to `targets`, and the others."""
    doomed: list[str] = []
    kept: list[str] = []
    for where, _, names in os.walk(folder / "snapshots"):
        for name in names:
            path = os.path.join(where, name)
            (doomed if os.path.realpath(path) in targets else kept).append(path)
    return doomed, kept


def _models_left(kept: list[str]) -> bool:
    """Whether another model of the repository may still want the projector."""
    return any(
        path.lower().endswith(".gguf") and "mmproj" not in os.path.basename(path).lower()
        for path in kept
    )


def remove(removal: Removal, cache: Path) -> None:
    """Do what was planned: names first, so that no list ever shows a model without its content.

    Raises:
        ModelFileError: the disk refuses.
    """
    try:
        for path in (*removal.links, *removal.blobs):
            Path(path).unlink(missing_ok=True)
        for path in removal.links:
            _prune(Path(path).parent, cache)
        for path in removal.blobs:
            _prune(Path(path).parent, cache)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelFileError("library.cannot_remove", name=removal.name, reason=reason) from error


def _prune(folder: Path, cache: Path) -> None:
    """Remove empty folders upward, up to the cache itself."""
    while folder != cache and folder.is_relative_to(cache):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
