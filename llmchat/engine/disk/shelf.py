"""The states of one model in its circumstances: which of them a prompt begins with, in and out.

Owns finding by the chain, exact comparison of tokens, and writing one state whole. What of a state
may be used at another length than its own is asked of the caller, who knows the model's memory.
"""

import hashlib
from collections.abc import Callable, Sequence

from msgspec import Struct

from llmchat.engine.disk import entry
from llmchat.engine.disk.entry import Damaged, Found, Meta, Snapshot
from llmchat.engine.disk.folder import Folder, Temporary
from llmchat.engine.disk.keys import BLOCK, as_tokens, chain, common_links, name_of
from llmchat.errors import ConfigError

Usable = Callable[[Meta, int], int]
"""(an entry, leading tokens in common) to the tokens that may be taken over from it."""

_CHUNK = 4 * 1024 * 1024


class Candidate(Struct, frozen=True, kw_only=True):
    """An entry that fits a prompt, not read yet. `at_least` of its tokens can be taken over."""

    meta: Meta
    at_least: int


class Shelf:
    """What one worker takes and puts. The methods that write are for one thread at a time."""

    def __init__(self, folder: Folder, circumstances: str, usable: Usable) -> None:
        self.folder = folder
        self._circumstances = circumstances
        self._usable = usable
        self._last: tuple[list[int], tuple[bytes, ...]] = ([], ())

    def find(self, tokens: Sequence[int], *, more_than: int = 0) -> Candidate | None:
        """The entry that spares a prompt the most tokens; None where none spares `more_than`.

        `tokens`: the prompt without its last token, which must be computed for its logits anyway.
        Within its last block an entry is only offered whole: what is promised is always there.
        """
        entries = [meta for meta in self.folder.entries() if self._is_mine(meta)]
        if not entries:
            return None
        links = self._links(tokens)
        best: Candidate | None = None
        for meta in entries:
            at_least = self._spares(meta, tokens, links)
            if at_least > (best.at_least if best else more_than):
                best = Candidate(meta=meta, at_least=at_least)
        return best

    def _is_mine(self, meta: Meta) -> bool:
        return meta.circumstances == self._circumstances

    def _links(self, tokens: Sequence[int]) -> tuple[bytes, ...]:
        """The chain; a request that waits is asked about at every step, so the last one is kept."""
        flat = list(tokens)
        if flat != self._last[0]:
            self._last = (flat, chain(self._circumstances, flat))
        return self._last[1]

    def _spares(self, meta: Meta, tokens: Sequence[int], links: Sequence[bytes]) -> int:
        shared = BLOCK * common_links(meta.links, links)
        if meta.n_tokens - shared < BLOCK and self._begins_with(tokens, meta):
            return self._usable(meta, meta.n_tokens)
        return self._usable(meta, min(shared, meta.n_tokens - 1))

    def _begins_with(self, tokens: Sequence[int], meta: Meta) -> bool:
        if meta.n_tokens > len(tokens):
            return False
        return name_of(self._circumstances, tokens[: meta.n_tokens]) == meta.name

    def read(
        self, candidate: Candidate, stopped: Callable[[], bool] = lambda: False
    ) -> Found | None:
        """A candidate's state; for any thread, as it takes seconds for each few GiB.

        None: it is gone, it was wrong and is forgotten, or `stopped` said so.
        """
        meta = candidate.meta
        try:
            found = entry.read_state(self.folder.path, meta, stopped)
            if found is not None and name_of(self._circumstances, found.tokens) != meta.name:
                raise Damaged("other tokens than its name says")
        except (FileNotFoundError, MemoryError):
            return None
        except (OSError, Damaged):
            self.discard(meta)
            return None
        return found

    def discard(self, meta: Meta) -> None:
        """Forget an entry: it was wrong, or llama.cpp would not have it."""
        try:
            self.folder.discard(meta)
        except (OSError, ConfigError):
            return

    def put(self, snapshot: Snapshot, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Write a state. False: there was no room, nobody may know it, or `stopped` said so.

        Raises:
            OSError: the medium is full or broken; nothing of it is left.
            ConfigError: the folder cannot be used.
        """
        name = name_of(self._circumstances, snapshot.tokens)
        if self.folder.touch(name, snapshot.tag):
            return True
        parts = [
            memoryview(as_tokens(snapshot.tokens).tobytes()),
            snapshot.state.data,
            *(state.data for _, state in snapshot.checkpoints),
        ]
        size = sum(part.nbytes for part in parts)
        temporary = self.folder.begin(name, size, snapshot.tag)
        if temporary is None:
            return False
        with temporary.file:
            try:
                checksum = _write(temporary, parts, stopped)
                if checksum is None:
                    temporary.drop()
                    return False
                meta = self._meta(name, snapshot, size, checksum)
                return self.folder.commit(temporary, meta, self._replaced_by(meta, snapshot))
            except OSError:
                temporary.drop()
                raise

    def _meta(self, name: str, snapshot: Snapshot, size: int, checksum: str) -> Meta:
        return Meta(
            name=name,
            circumstances=self._circumstances,
            n_tokens=len(snapshot.tokens),
            links=chain(self._circumstances, snapshot.tokens),
            pos_min=snapshot.pos_min,
            checkpoints=tuple((end, state.nbytes) for end, state in snapshot.checkpoints),
            size=size,
            checksum=checksum,
            tags=(snapshot.tag,),
            seconds=snapshot.seconds,
        )

    def _replaced_by(self, new: Meta, snapshot: Snapshot) -> Callable[[Meta], bool]:
        """Shorter states of the same conversation, and of no other, that the new one can give."""

        def replaced(old: Meta) -> bool:
            return (
                self._is_mine(old)
                and old.tags == new.tags
                and self._begins_with(snapshot.tokens, old)
                and self._usable(new, old.n_tokens) == old.n_tokens
            )

        return replaced


def _write(
    temporary: Temporary, parts: Sequence[memoryview], stopped: Callable[[], bool]
) -> str | None:
    """Write the parts; their sha256, or None when told to stop."""
    digest = hashlib.sha256()
    for part in parts:
        for start in range(0, len(part), _CHUNK):
            if stopped():
                return None
            chunk = part[start : start + _CHUNK]
            digest.update(chunk)
            written = 0
            while written < len(chunk):
                written += temporary.file.write(chunk[written:])
    return digest.hexdigest()
