"""What a hub says, checked before it is believed. Any server may be hostile, a mirror most of all.

Owns the shapes that names, hashes, sizes and commits must have before they come near a path, and
the JSON of the two calls we make. Refuses everything else with one error.
"""

import re
import unicodedata

from msgspec import Struct

from llmchat.errors import HubError

SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_SHA1 = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?/?){2}(?<!/)")
_SIZE = re.compile(r"[0-9]{1,15}")
_SEGMENT_BYTES = 255
_RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")
"""Names that are devices on Windows, whatever follows the dot."""


class Lfs(Struct, frozen=True):
    """Where a large file's content is named."""

    oid: str = ""
    size: int = -1


class TreeEntry(Struct, frozen=True):
    """One entry of `GET /api/models/{repo}/tree/{commit}`."""

    type: str
    path: str
    size: int = -1
    oid: str = ""
    lfs: Lfs | None = None


class ModelInfo(Struct, frozen=True):
    """The part of `GET /api/models/{repo}/revision/{revision}` that we use."""

    sha: str
    id: str = ""
    """What the hub calls it: another name than was asked for, when it was renamed."""


class RepoFile(Struct, frozen=True, kw_only=True):
    """A file of a repository at one commit, validated."""

    path: str
    size: int
    digest: str
    """sha256 of the content (64), or git's blob sha1 (40) outside LFS."""


def bad_answer(what: str, value: object) -> HubError:
    """The error for an answer that cannot be used; `value` is cut and shown cleaned by faces."""
    return HubError("hub.bad_answer", what=what, value=str(value)[:100])


def commit_of(text: str | None) -> str:
    """A commit: 40 hex digits.

    Raises:
        HubError: anything else.
    """
    if not text or not GIT_SHA1.fullmatch(text):
        raise bad_answer("commit", text)
    return text


def repo_of(text: str) -> str:
    """A repository's name, or "" for what cannot be one (rules of `validate_repo_id`)."""
    fits = _REPO.fullmatch(text) and "--" not in text and ".." not in text
    return text if fits and not text.endswith(".git") else ""


def etag_of(text: str | None) -> str | None:
    """The hash inside an (X-Linked-)ETag, or None when there is no such header.

    Raises:
        HubError: neither 40 nor 64 hex digits.
    """
    if text is None:
        return None
    etag = text.removeprefix("W/").strip('"')
    if not (SHA256.fullmatch(etag) or GIT_SHA1.fullmatch(etag)):
        raise bad_answer("ETag", text)
    return etag


def size_of(text: str | None) -> int | None:
    """A size in bytes, or None when there is no such header.

    Raises:
        HubError: not a plain number below 10^15.
    """
    if text is None:
        return None
    if not _SIZE.fullmatch(text):
        raise bad_answer("size", text)
    return int(text)


def safe_path(path: str) -> bool:
    """True for a path that names the same file, inside its folder, on every system."""
    if not path or len(path) > 1024 or "\\" in path or ":" in path or not path.isprintable():
        return False
    return all(
        segment not in ("", ".", "..")
        and len(segment.encode("utf-8", "surrogatepass")) <= _SEGMENT_BYTES
        and not _RESERVED.fullmatch(segment)
        and not segment.endswith((" ", "."))
        for segment in path.split("/")
    )


def distinct(paths: list[str]) -> bool:
    """True when no two names are one on a file system that folds case or composes accents."""
    folded = {unicodedata.normalize("NFC", path).casefold() for path in paths}
    return len(folded) == len(paths)


def repo_file(entry: TreeEntry) -> RepoFile | None:
    """The entry as a file we could fetch; None for folders and for names we do not accept."""
    if entry.type != "file" or not safe_path(entry.path):
        return None
    digest = entry.lfs.oid if entry.lfs else entry.oid
    size = entry.lfs.size if entry.lfs else entry.size
    wanted = SHA256 if entry.lfs else GIT_SHA1
    if not wanted.fullmatch(digest) or not 0 < size < 10**15:
        return None
    return RepoFile(path=entry.path, size=size, digest=digest)
