"""What pulls that died have left in the shared cache, ours and other programs'.

Owns naming and removing partial files. A pull goes on with its own, so nobody removes one unasked;
what somebody is writing now is under its blob's lock and stays. Refuses whole files.
"""

import re
from pathlib import Path

from msgspec import Struct

_NAME = re.compile(r"(?P<digest>[0-9a-f]{40}|[0-9a-f]{64})\.(?P<rest>.+)")
_OURS = re.compile(r"(?:[0-9a-f]+\.)?llmchat-part(?:-spans)?")
_THEIRS = re.compile(r"(?:[0-9a-zA-Z_-]{1,40}\.)?incomplete")
"""huggingface_hub's: `<etag>.incomplete` before 1.18, `<etag>.<8 hex>.incomplete` since."""


class Leftover(Struct, frozen=True, kw_only=True):
    """One partial file."""

    path: str
    size: int
    """Bytes that it takes on the disk, holes left out."""
    ours: bool
    """A pull of ours goes on with it; False for those of huggingface_hub."""


def leftovers(cache: Path) -> list[Leftover]:
    """Every partial file in the cache, by path."""
    found = []
    for path in sorted(cache.glob("models--*/blobs/*")):
        named = _NAME.fullmatch(path.name)
        if named is None or path.is_symlink():
            continue
        ours = _OURS.fullmatch(named["rest"]) is not None
        if ours or _THEIRS.fullmatch(named["rest"]):
            try:
                size = path.stat().st_blocks * 512
            except OSError:
                continue  # finished or removed meanwhile
            found.append(Leftover(path=str(path), size=size, ours=ours))
    return found


def remove(cache: Path, unwanted: list[Leftover]) -> list[Leftover]:
    """Delete partial files that nobody is writing; those that were deleted.

    Raises:
        HubError: the disk refuses.
    """
    from llmchat.hub.cache import RepoFolder

    removed = []
    for one in unwanted:
        path = Path(one.path)
        named = _NAME.fullmatch(path.name)
        if named is None:
            continue
        repo = path.parent.parent.name.removeprefix("models--").replace("--", "/")
        if RepoFolder(cache, repo).discard_file(named["digest"], path):
            removed.append(one)
    return removed
