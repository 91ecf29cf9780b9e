"""The standard Hugging Face cache, read: `models--OWNER--NAME/{blobs,snapshots,refs}`.

Owns which files there are whole models, and what taking one away frees. Refuses what is not whole:
partial downloads (ours and Hugging Face's) are never a snapshot's link, and shards count together.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llmchat.library.found import Found
from llmchat.library.variants import Variant, group, projector_for

IMPORTED = "imported/"
"""The owner of what the user brought: such a model goes by its bare name."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FOLDER = re.compile(r"models--([^/]+?)--([^/]+)")


def scan(cache: Path) -> Iterator[Found]:
    """Every model in the cache, also with shards missing.

    A file of several snapshots goes by the newest one's name.
    """
    try:
        folders = sorted(os.scandir(cache), key=lambda entry: entry.name)
    except OSError:
        return
    for folder in folders:
        named = _FOLDER.fullmatch(folder.name)
        if named and folder.is_dir():
            yield from _repository(f"{named[1]}/{named[2]}", folder.path)


def _repository(repo: str, folder: str) -> Iterator[Found]:
    seen: set[tuple[str, ...]] = set()
    names: set[str] = set()
    for snapshot in _snapshots(folder):
        files = _files(snapshot)
        variants = group({path: size for path, (_, size) in files.items()})
        for variant in variants:
            blobs = tuple(files[path][0] for path in variant.files)
            if variant.kind != "model" or blobs in seen:
                continue
            seen.add(blobs)
            found = _found(repo, snapshot, variant, variants, files)
            if found.missing:
                yield found
                continue
            if found.name in names:  # an older commit's file of the same label
                found = replace(found, name=found.paths[0])
            names.add(found.name)
            yield found


def _snapshots(folder: str) -> list[str]:
    """Folders of the commits, the one that `main` means first, then newest first."""
    main = _ref(os.path.join(folder, "refs", "main"))
    try:
        entries = [
            (entry.name != main, -entry.stat().st_mtime, entry.path)
            for entry in os.scandir(os.path.join(folder, "snapshots"))
            if _COMMIT.fullmatch(entry.name) and entry.is_dir()
        ]
    except OSError:
        return []
    return [path for _, _, path in sorted(entries)]


def _ref(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(64).strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _files(snapshot: str) -> dict[str, tuple[str, int]]:
    """GGUF files of a snapshot: path inside it to (blob's path, bytes). Dangling links left out."""
    files = {}
    for folder, _, names in os.walk(snapshot):
        for name in names:
            path = os.path.join(folder, name)
            if name.lower().endswith(".gguf") and os.path.isfile(path):
                inside = os.path.relpath(path, snapshot).replace(os.sep, "/")
                files[inside] = (os.path.realpath(path), os.stat(path).st_size)
    return files


def _found(
    repo: str,
    snapshot: str,
    variant: Variant,
    variants: list[Variant],
    files: dict[str, tuple[str, int]],
) -> Found:
    projector = projector_for(variant, variants)
    digests = tuple(os.path.basename(files[path][0]) for path in variant.files)
    named = all(_SHA256.fullmatch(digest) for digest in digests)
    eye = files[projector.files[0]][0] if projector else ""
    name = repo.removeprefix(IMPORTED)
    return Found(
        name=name if variant.complete and repo.startswith(IMPORTED) else f"{repo}:{variant.label}",
        paths=tuple(os.path.join(snapshot, *path.split("/")) for path in variant.files),
        size=variant.size + (projector.size if projector else 0),
        source="huggingface",
        digests=digests if named else (),
        projector=os.path.join(snapshot, *projector.files[0].split("/")) if projector else None,
        projector_digest=os.path.basename(eye) if _SHA256.fullmatch(os.path.basename(eye)) else "",
        also=(
            variant.files[0],
            variant.files[0].rpartition("/")[2],
            *([f"{repo}:{variant.label}"] if repo.startswith(IMPORTED) else ()),
        ),
        missing=variant.missing,
    )
