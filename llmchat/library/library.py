"""One list of every runnable model on this disk, read in place, with names that can be typed again.

Owns the list: the stores in order, each file once, short names for the files they mean. Refuses
networks, headers and engines.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmchat.library.found import Found
from llmchat.library.shortnames import ShortName
from llmchat.library.stores import huggingface
from llmchat.values import ModelFile


@dataclass(frozen=True, slots=True)
class Library:
    """Where to look. Each scan looks again: files come and go."""

    hub_cache: Path
    shortnames: Mapping[str, ShortName] = field(default_factory=dict)

    def scan(self) -> list[Found]:
        """Every whole model, each file once, by name."""
        by_digest = {entry.sha256: entry for entry in self.shortnames.values() if entry.sha256}
        found = (_short(model, by_digest) for model in self._stores())
        return sorted(_once(found), key=lambda model: model.name.casefold())

    def models(self) -> list[ModelFile]:
        """The list as faces and engines see it."""
        return [model_file(found) for found in self.scan()]

    def _stores(self) -> Iterator[Found]:
        yield from huggingface.scan(self.hub_cache)


def model_file(found: Found) -> ModelFile:
    """What an engine needs to open it.

    Raises:
        OSError: its content is not named by its store, and it cannot be read.
    """
    return ModelFile(
        name=found.name,
        path=found.paths[0],
        identity=found.identity,
        size=found.size,
        shards=found.paths if len(found.paths) > 1 else (),
        projector=found.projector,
        source=found.source,
    )


def _short(model: Found, by_digest: Mapping[str, ShortName]) -> Found:
    """The model under its short name, when one means exactly these bytes."""
    entry = by_digest.get(model.digests[0]) if len(model.digests) == 1 else None
    if entry is None:
        return model
    return replace(model, name=entry.name, also=(*model.also, model.name))


def _once(models: Iterable[Found]) -> Iterator[Found]:
    """Without what an earlier store had already, by content where it is named, else by path."""
    seen: set[tuple[str, ...]] = set()
    for model in models:
        keys = {model.paths} | ({model.digests} if model.digests else set())
        if not keys & seen:
            yield model
        seen |= keys
