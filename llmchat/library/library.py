"""One list of every runnable model on this disk, read in place, with names that can be typed again.

Owns the list: the stores in order, each file once, short names for the files they mean. Refuses
networks, headers and engines.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmchat.library.found import Found, IsGguf, is_gguf
from llmchat.library.shortnames import ShortName
from llmchat.library.stores import folders, huggingface, ollama


@dataclass(frozen=True, slots=True)
class Library:
    """Where to look. Each scan looks again: files come and go."""

    hub_cache: Path
    lmstudio: tuple[Path, ...] = ()
    ollama: tuple[Path, ...] = ()
    llama_cpp: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    """The user's own."""
    shortnames: Mapping[str, ShortName] = field(default_factory=dict)
    known: IsGguf = is_gguf
    """Tells a GGUF from other files, and may remember."""

    def scan(self) -> list[Found]:
        """Every whole model, each file once, each name once, by name."""
        return [model for model in self._named_models() if not model.missing]

    def incomplete(self) -> list[Found]:
        """Sets of shards that are not whole, by name: told, never run."""
        models = self._named_models()
        whole = {name.casefold() for m in models if not m.missing for name in (m.name, *m.also)}
        return [m for m in models if m.missing and m.name.casefold() not in whole]

    def _named_models(self) -> list[Found]:
        by_digest = {entry.sha256: entry for entry in self.shortnames.values() if entry.sha256}
        found = (_short(model, by_digest) for model in self._stores())
        return sorted(_named(_once(found)), key=lambda model: model.name.casefold())

    def _stores(self) -> Iterator[Found]:
        yield from huggingface.scan(self.hub_cache)
        for root in self.lmstudio:
            yield from folders.scan(root, "lmstudio", folders.owner_and_repo, self.known)
        for root in self.ollama:
            yield from ollama.scan(root, self.known)
        for root in self.llama_cpp:
            yield from folders.scan(root, "llama.cpp", known=self.known)
        for root in self.folders:
            yield from folders.scan(root, "folder", known=self.known)


def _short(model: Found, by_digest: Mapping[str, ShortName]) -> Found:
    """The model under its short name, when one means exactly these bytes."""
    entry = by_digest.get(model.digests[0]) if len(model.digests) == 1 else None
    if entry is None:
        return model
    if "/" not in model.name:  # imported under a name that the user chose
        return replace(model, also=(*model.also, entry.name))
    return replace(model, name=entry.name, also=(*model.also, model.name))


def _once(models: Iterable[Found]) -> list[Found]:
    """The same content, or the same file, once: under its first name, the others still mean it."""
    kept: list[Found] = []
    places: dict[tuple[str, ...], int] = {}
    for model in models:
        keys = {tuple(os.path.realpath(path) for path in model.paths)}
        if model.digests:
            keys.add(model.digests)
        place = next((places[key] for key in keys if key in places), len(kept))
        if place == len(kept):
            kept.append(model)
        else:
            first = kept[place]
            kept[place] = replace(first, also=(*first.also, model.name, *model.also))
        places |= dict.fromkeys(keys, place)
    return kept


def _named(models: Iterable[Found]) -> Iterator[Found]:
    """Each under a name of its own: the first store keeps a name, a later file goes by its path."""
    names: set[str] = set()
    for model in models:
        if model.missing:
            yield model
            continue
        if model.name.casefold() in names:
            model = replace(model, name=model.paths[0])
        names.add(model.name.casefold())
        yield model
