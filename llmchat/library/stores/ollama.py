"""Ollama's store, read: manifests by name, blobs by sha256.

Owns following a manifest to its model and projector. Refuses digests that are no digests: a
manifest is a file that anybody may have written.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from llmchat.library.found import Found, IsGguf, is_gguf

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MODEL = "application/vnd.ollama.image.model"
_PROJECTOR = "application/vnd.ollama.image.projector"
_MAX_MANIFEST = 1024 * 1024
_DEFAULT_HOST = "registry.ollama.ai"


class _Layer(Struct, frozen=True, rename={"media_type": "mediaType"}):
    media_type: str = ""
    digest: str = ""


class _Manifest(Struct, frozen=True):
    layers: list[_Layer] = []


def scan(root: Path, known: IsGguf = is_gguf) -> Iterator[Found]:
    """Every model whose weights are here, under the name Ollama gives it."""
    manifests = root / "manifests"
    for folder, below, names in os.walk(manifests):
        below.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            parts = os.path.relpath(path, manifests).split(os.sep)
            if len(parts) >= 4 and (found := _model(_name(parts), path, root, known)):
                yield found


def _name(parts: list[str]) -> str:
    """`qwen3:8b` for the default registry's library, longer for the rest, as `ollama list` says."""
    path, tag = parts[:-1], parts[-1]
    for usual in (_DEFAULT_HOST, "library"):
        if path[0] == usual:
            path = path[1:]
    return f"{'/'.join(path)}:{tag}"


def _model(name: str, manifest: str, root: Path, known: IsGguf) -> Found | None:
    layers = _layers(manifest)
    weights = _blob(layers, _MODEL, root, known)
    if weights is None:
        return None
    path, digest = weights
    eye = _blob(layers, _PROJECTOR, root, known)
    return Found(
        name=name,
        paths=(path,),
        size=os.stat(path).st_size + (os.stat(eye[0]).st_size if eye else 0),
        source="ollama",
        digests=(digest,),
        projector=eye[0] if eye else None,
        projector_digest=eye[1] if eye else "",
        extras=(manifest,),
    )


def others_use(blob: str, manifest: str) -> bool:
    """Whether another manifest of the store names the blob, too."""
    root = Path(blob).parent.parent / "manifests"
    wanted = os.path.basename(blob).replace("-", ":", 1)
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if path != manifest and any(layer.digest == wanted for layer in _layers(path)):
                return True
    return False


def _layers(manifest: str) -> list[_Layer]:
    try:
        with open(manifest, "rb") as file:
            return msgspec.json.decode(file.read(_MAX_MANIFEST), type=_Manifest).layers
    except (OSError, msgspec.DecodeError, RecursionError):
        return []


def _blob(layers: list[_Layer], kind: str, root: Path, known: IsGguf) -> tuple[str, str] | None:
    """Path and sha256 of the one layer of a kind, if it is here and a GGUF."""
    found = [
        m[1]
        for layer in layers
        if layer.media_type == kind and (m := _DIGEST.fullmatch(layer.digest))
    ]
    if len(found) != 1:
        return None
    path = str(root / "blobs" / f"sha256-{found[0]}")
    return (path, found[0]) if known(path) else None
