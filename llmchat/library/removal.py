"""Taking a model off the disk: what that frees, said first.

Owns removing a model from the shared Hugging Face cache: its links, and the blobs that no other
link needs. Every other store's files are other programs' or the user's own: they go only when that
is asked for by name. Refuses to touch what a link leads to outside of the store.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llmchat.errors import ModelFileError
from llmchat.library.found import Found
from llmchat.library.stores.ollama import others_use


@dataclass(frozen=True, slots=True)
class Removal:
    """What removing a model does."""

    name: str
    freed: int
    """Bytes that the disk gets back."""
    links: tuple[str, ...]
    """Names to unlink first: nothing lists the model afterwards."""
    blobs: tuple[str, ...]
    """Contents that nothing else refers to."""
    source: str = "huggingface"
    """Where it lies; `name` for one of the user's names, which alone goes."""


def only_name(name: str) -> Removal:
    """What forgetting a name does: nothing to the disk."""
    return Removal(name=name, freed=0, links=(), blobs=(), source="name")


def plan_removal(model: Found, cache: Path, *, anywhere: bool = False) -> Removal:
    """What `remove` would do; `anywhere` also takes what other programs or the user put there.

    Raises:
        ModelFileError: it lies in a store that is not ours to clean.
    """
    if model.source == "huggingface":
        return _from_cache(model, cache)
    if not anywhere:
        raise ModelFileError("library.not_ours", name=model.name, path=model.paths[0])
    if model.source == "ollama":
        return _from_ollama(model)
    return _removal(model, (), model.paths)


def _from_cache(model: Found, cache: Path) -> Removal:
    folder = _repository(Path(model.paths[0]), cache)
    targets = {os.path.realpath(path) for path in model.paths}
    doomed, kept = _links(folder, targets)
    if model.projector:
        eye = os.path.realpath(model.projector)
        if not _models_left(kept):
            targets.add(eye)
            doomed, kept = _links(folder, targets)
    inside = os.path.realpath(folder) + os.sep
    # An imported link leads to the user's own file: the link goes, the file stays.
    return _removal(model, doomed, [target for target in targets if target.startswith(inside)])


def _from_ollama(model: Found) -> Removal:
    """The manifest, and the blobs that no other manifest names."""
    [manifest] = model.extras
    blobs = [*model.paths, *([model.projector] if model.projector else [])]
    return _removal(model, model.extras, [b for b in blobs if not others_use(b, manifest)])


def _removal(model: Found, links: Iterable[str], blobs: Iterable[str]) -> Removal:
    blobs = tuple(sorted(blobs))
    return Removal(
        name=model.name,
        # A name beside it (a hard link) keeps the content: then nothing is freed.
        freed=sum(f.st_size for f in map(os.lstat, blobs) if f.st_nlink == 1),
        links=tuple(sorted(links)),
        blobs=blobs,
        source=model.source,
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
        if removal.source == "huggingface":
            for path in (*removal.links, *removal.blobs):
                _prune(Path(path).parent, cache)
            for folder in {_repository(Path(path), cache) for path in removal.links}:
                _forget_refs(folder, cache)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelFileError("library.cannot_remove", name=removal.name, reason=reason) from error


def _forget_refs(folder: Path, cache: Path) -> None:
    """Remove branches and tags of commits that are gone: Hugging Face's scan complains of them."""
    for ref in [path for path in (folder / "refs").rglob("*") if path.is_file()]:
        if not (folder / "snapshots" / ref.read_bytes()[:64].decode("ascii", "replace")).is_dir():
            ref.unlink(missing_ok=True)
            _prune(ref.parent, cache)


def _prune(folder: Path, cache: Path) -> None:
    """Remove empty folders upward, up to the cache itself."""
    while folder != cache and folder.is_relative_to(cache):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
