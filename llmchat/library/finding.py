"""From what was typed to a model on this disk.

Owns the order: a path, an alias, an exact name, another exact name for it, then a unique part.
Refuses to guess: several matches are an error that lists them, none one with the nearest names.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from llmchat.errors import ModelFileError, NotFound
from llmchat.library.found import Found, is_gguf, shard_siblings, total_size
from llmchat.library.references import Reference, parse_reference
from llmchat.library.shortnames import ShortName
from llmchat.library.variants import label_of

_SHOWN = 8
NO_SHORT_NAMES: Final[Mapping[str, ShortName]] = {}


def find(
    text: str,
    models: Sequence[Found],
    aliases: Mapping[str, str],
    shortnames: Mapping[str, ShortName] = NO_SHORT_NAMES,
) -> Found:
    """The model that `text` names.

    Raises:
        UsageError: `text` is no reference. ModelFileError: a path to something else.
        NotFound: none, or more than one.
    """
    target = unalias(text, aliases)
    reference = parse_reference(target)
    if reference.kind == "file":
        return at_path(reference.path, models)
    exact = _exact(reference, target, models)
    if not exact:
        # A short name means its repository, also when a name here contains the word.
        reference = expand(reference, shortnames)
    for match in (lambda *_: exact, _in_repository, _part):
        found = match(reference, target, models)
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(model.name for model in found[:_SHOWN])
            raise NotFound("library.several", ref=text, names=names)
    raise missing(text, models, aliases)


def expand(reference: Reference, shortnames: Mapping[str, ShortName]) -> Reference:
    """A word of the table as the repository and variant that it stands for."""
    entry = shortnames.get(reference.word.casefold()) if reference.kind == "word" else None
    if entry is None:
        return reference
    return Reference(
        text=reference.text,
        kind="repo",
        repo=entry.repo,
        selector=reference.selector or entry.selector or entry.file,
        revision=entry.revision,
    )


def missing(text: str, models: Sequence[Found], aliases: Mapping[str, str]) -> NotFound:
    """The error for a name that nothing here has, with the nearest ones."""
    import difflib  # for a misspelling alone

    names = {model.name.casefold(): model.name for model in models}
    names |= {alias.casefold(): alias for alias in aliases}
    near = difflib.get_close_matches(text.casefold(), names, n=3, cutoff=0.5)
    if near:
        return NotFound("library.near", ref=text, near=", ".join(names[name] for name in near))
    return NotFound("library.missing", ref=text)


def unalias(text: str, aliases: Mapping[str, str]) -> str:
    """Follow aliases, whatever their case; one that leads back to itself ends there.

    The one place that says what an alias means: resolving, planning and asking a hub agree.
    """
    folded = {alias.casefold(): target for alias, target in aliases.items()}
    seen: set[str] = set()
    while (name := text.strip().casefold()) in folded and name not in seen:
        seen.add(name)
        text = folded[name]
    return text


def _exact(reference: Reference, target: str, models: Sequence[Found]) -> list[Found]:
    wanted = {target.strip().casefold()}
    if reference.kind == "repo" and reference.selector:
        wanted.add(f"{reference.repo}:{reference.selector}".casefold())
    named = [model for model in models if model.name.casefold() in wanted]
    if named:
        return named
    return [m for m in models if any(name.casefold() in wanted for name in m.also)]


def _in_repository(reference: Reference, target: str, models: Sequence[Found]) -> list[Found]:
    """Models of the repository that was named, narrowed by the selector."""
    if reference.kind != "repo":
        return []
    prefix = f"{reference.repo}:".casefold()
    mine = [m for m in models if any(n.casefold().startswith(prefix) for n in (m.name, *m.also))]
    if not reference.selector:
        return mine
    wanted = _fold(reference.selector)
    return [
        model
        for model in mine
        if wanted in {_fold(label_of(model.paths[0])), *(_fold(name) for name in model.also)}
        or _fold(label_of(model.paths[0])).endswith(f"_{wanted}")
    ]


def _part(reference: Reference, target: str, models: Sequence[Found]) -> list[Found]:
    if reference.kind != "word":
        return []
    wanted = target.strip().casefold()
    return [
        model
        for model in models
        if any(wanted in name.casefold() for name in (model.name, *model.also))
    ]


def _fold(text: str) -> str:
    return text.casefold().replace("-", "_")


def at_path(text: str, models: Sequence[Found]) -> Found:
    """The model in a file: under its usual name when a store lists it, else as its path.

    Raises:
        NotFound: nothing is there. ModelFileError: no GGUF, or a shard is missing.
    """
    path = os.path.abspath(Path(text).expanduser())
    if not os.path.lexists(path):
        raise NotFound("library.no_file", path=path)
    if not is_gguf(path):
        raise ModelFileError("library.not_gguf", path=path)
    real = os.path.realpath(path)
    for model in models:
        if path in model.paths or real in {os.path.realpath(p) for p in model.paths}:
            return model
    paths = shard_siblings(path)
    if paths is None:
        raise ModelFileError("library.shard_missing", path=path)
    return Found(name=path, paths=paths, size=total_size(paths), source="file")
