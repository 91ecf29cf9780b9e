"""One saved state: two files, and the checks that decide whether they are believed.

`NAME.state` is the tokens (int32, little endian), the state as llama.cpp gave it, and the states of
its checkpoints; `NAME.meta` is a sha256 and the JSON under it. The meta file comes second and makes
the entry exist. Nothing is synced to the medium: what a power cut leaves half-written fails its
sha256.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

STATE, META, TEMPORARY = ".state", ".meta", ".tmp"
PRIVATE = 0o600
_NAME = re.compile(r"[0-9a-f]{32}")
_HEX = 64
_META_MOST = 8 * 1024 * 1024
"""A meta file of two million tokens is 200 KB."""
_CHUNK = 4 * 1024 * 1024

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]


class Damaged(Exception):
    """A file is not what its meta file, or its name, says: it is forgotten, never used."""


class Meta(Struct, frozen=True, kw_only=True):
    """What is known of an entry without reading its state. Sizes in bytes, times in seconds."""

    name: str
    circumstances: str
    n_tokens: int
    links: tuple[bytes, ...]
    """The chain over its whole blocks."""
    pos_min: int = 0
    """The first position whose cell is in the state: above 0 behind a sliding window."""
    checkpoints: tuple[tuple[int, int], ...] = ()
    """Length and size of each state of the part that cannot be cut back to that length."""
    size: int
    """Of the state file."""
    checksum: str
    """sha256 of the state file."""
    tags: tuple[str, ...]
    """The conversations that say all of these tokens."""
    seconds: float = 0.0
    """What reading the tokens again would take."""
    used: float = 0.0
    """When it was written or last taken."""

    @property
    def token_bytes(self) -> int:
        """Leading bytes of the state file that are the tokens."""
        return 4 * self.n_tokens

    @property
    def state_bytes(self) -> int:
        """Bytes of the whole state, which follow the tokens."""
        return self.size - self.token_bytes - sum(size for _, size in self.checkpoints)


class Snapshot(Struct, frozen=True, kw_only=True):
    """A state on its way to the disk."""

    tokens: tuple[int, ...]
    state: "Bytes"
    tag: str
    pos_min: int = 0
    checkpoints: tuple[tuple[int, "Bytes"], ...] = ()
    """Length and partial state of each."""
    seconds: float = 0.0

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.state.nbytes + sum(state.nbytes for _, state in self.checkpoints)


class Found(Struct, frozen=True, kw_only=True):
    """A state out of the folder: checked, byte for byte what was put in."""

    meta: Meta
    tokens: list[int]
    state: "Bytes"
    checkpoints: tuple[tuple[int, "Bytes"], ...] = ()


def encode_meta(meta: Meta) -> bytes:
    """The meta file's content."""
    body = msgspec.json.encode(meta)
    return hashlib.sha256(body).hexdigest().encode() + body


def decode_meta(name: str, data: bytes) -> Meta:
    """The entry that a meta file describes.

    Raises:
        Damaged: a byte is not as it was written, or the file was given another name.
    """
    digest, body = data[:_HEX], data[_HEX:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise Damaged("the meta file's sha256 is another")
    try:
        meta = msgspec.json.decode(body, type=Meta)
    except msgspec.DecodeError as error:
        raise Damaged("the meta file is no JSON of ours") from error
    if meta.name != name or not is_name(name):
        raise Damaged("the meta file has another name")
    if meta.n_tokens < 1 or meta.state_bytes < 1 or any(size < 1 for _, size in meta.checkpoints):
        raise Damaged("impossible sizes")
    return meta


def is_name(text: str) -> bool:
    """Whether it could be an entry's name."""
    return _NAME.fullmatch(text) is not None


def read_meta(folder: Path, name: str) -> Meta:
    """An entry's meta file.

    Raises:
        Damaged: it is not to be believed.
        OSError: it cannot be read.
    """
    with _open_ours(folder / (name + META)) as file:
        return decode_meta(name, file.read(_META_MOST))


def read_state(
    folder: Path, meta: Meta, stopped: Callable[[], bool] = lambda: False
) -> Found | None:
    """An entry's tokens and states, checked: size and sha256 of every byte that is returned.

    None: `stopped`, which is asked every few MiB, said that nobody wants it any more.

    Raises:
        Damaged: it is not what was written.
        OSError: it cannot be read.
    """
    import numpy as np  # 0.1 s that programs which only look at the folder do not pay

    data = np.empty(meta.size, np.uint8)
    view = data.data
    digest = hashlib.sha256()
    done = 0
    with _open_ours(folder / (meta.name + STATE)) as file:
        if os.fstat(file.fileno()).st_size != meta.size:
            raise Damaged("the state file has another size")
        while done < meta.size:
            if stopped():
                return None
            count = file.readinto(view[done : done + _CHUNK])
            if not count:
                raise Damaged("the state file ends early")
            digest.update(view[done : done + count])
            done += count
    if digest.hexdigest() != meta.checksum:
        raise Damaged("the state file's sha256 is another")
    return _parts(meta, data)


def _parts(meta: Meta, data: "Bytes") -> Found:
    end = meta.token_bytes + meta.state_bytes
    checkpoints = []
    start = end
    for length, size in meta.checkpoints:
        # A copy: a view would keep the whole state in memory as long as the checkpoint lives.
        checkpoints.append((length, data[start : start + size].copy()))
        start += size
    return Found(
        meta=meta,
        tokens=data[: meta.token_bytes].view("<i4").tolist(),
        state=data[meta.token_bytes : end],
        checkpoints=tuple(checkpoints),
    )


def _open_ours(path: Path) -> FileIO:
    """A plain file of ours; no link is followed, and no pipe waited for.

    Raises:
        Damaged: it is something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
        os.close(descriptor)
        raise Damaged("not a plain file of ours")
    return open(descriptor, "rb", buffering=0)


def new_private(path: Path) -> FileIO:
    """A new file of ours alone (0600)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(path, flags, PRIVATE), "wb", buffering=0)
