"""Folders of GGUF files, at any depth: the user's own, LM Studio's, llama.cpp's cache.

Owns finding whole models in a tree of plain files. Refuses links to folders (a loop has no end) and
what another program is still writing.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from llmchat.library.found import Found, IsGguf, is_gguf
from llmchat.library.variants import Variant, group, projector_for

Namer = Callable[[str, Variant], str]
"""From a model's folder (relative to the root, with `/`) and variant to its name; "" = its path."""


def scan(
    root: Path, source: str, namer: Namer | None = None, known: IsGguf = is_gguf
) -> Iterator[Found]:
    """Every model below `root`, also with shards missing.

    A projector serves the models of its own folder.
    """
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from _folder(folder, names, str(root), source, namer, known)


def _folder(
    folder: str, names: list[str], root: str, source: str, namer: Namer | None, known: IsGguf
) -> Iterator[Found]:
    sizes = {}
    for name in names:
        if name.lower().endswith(".gguf") and known(path := os.path.join(folder, name)):
            sizes[name] = os.stat(path).st_size
    variants = group(sizes)
    inside = os.path.relpath(folder, root).replace(os.sep, "/")
    for variant in variants:
        if variant.kind == "model":
            paths = tuple(os.path.join(folder, name) for name in variant.files)
            eye = projector_for(variant, variants)
            yield Found(
                name=(namer(inside, variant) if namer else "") or paths[0],
                paths=paths,
                size=variant.size + (eye.size if eye else 0),
                source=source,
                projector=os.path.join(folder, eye.files[0]) if eye else None,
                also=(variant.files[0],),
                missing=variant.missing,
            )


def owner_and_repo(inside: str, variant: Variant) -> str:
    """LM Studio keeps `owner/repo/file`: the name it has on the hub."""
    parts = inside.split("/")
    return f"{parts[0]}/{parts[1]}:{variant.label}" if len(parts) == 2 else ""
