"""Where a header's bytes come from: a file opened without trust, or ranges over a network.

Owns opening (a FIFO, a device or a folder is refused without blocking; nothing is mapped, so a file
that shrinks is an error and no signal), and a cursor that reads forward through a small window and
knows how many bytes are left. Refuses to know GGUF.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import Any, Final

from llmchat.errors import ModelFileError
from llmchat.text.cleaning import clean_line

Fetch = Callable[[int, int], bytes]
"""`fetch(offset, length)`: that many bytes from there, fewer only where the file ends."""

WINDOW: Final = 256 * 1024
_U64: Final = Struct("<Q")


class Damaged(Exception):
    """What is wrong, as a key of the catalogue's [gguf] table and its values."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values = values


def as_error(damage: Damaged, name: str) -> ModelFileError:
    """The error that a person meets, naming the file."""
    values: dict[str, Any] = {
        key: clean_line(value, 80) if isinstance(value, str) else value
        for key, value in damage.values.items()
    }
    return ModelFileError(f"gguf.{damage.key}", name=clean_line(name, 120), **values)


@contextmanager
def open_file(path: str | Path) -> Iterator[tuple[Fetch, int]]:
    """A regular file's bytes and size.

    Raises:
        ModelFileError: it is not there, may not be read, or is no regular file.
    """
    name = os.fspath(path)
    try:
        # NONBLOCK: opening a FIFO would otherwise wait for a writer.
        handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise as_error(Damaged("unreadable", reason=reason), name) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise as_error(Damaged("not_a_file"), name)
        yield lambda offset, length: os.pread(handle, length, offset), status.st_size
    except OSError as error:
        raise as_error(Damaged("unreadable", reason=error.strerror or ""), name) from error
    finally:
        os.close(handle)


class Cursor:
    """Reads forward. Every length is checked against the bytes left before it is used."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch = fetch
        self._window = b""
        self._start = 0
        self.size = size
        self.place = 0

    @property
    def left(self) -> int:
        """Bytes from here to the end."""
        return self.size - self.place

    def take(self, length: int) -> bytes:
        """The next `length` bytes.

        Raises:
            Damaged: the file ends before.
        """
        if length > self.left:
            raise Damaged("incomplete")
        at = self.place - self._start
        if not 0 <= at <= len(self._window) - length:
            self._fill(max(length, WINDOW))
            at = 0
            if len(self._window) < length:
                raise Damaged("incomplete")
        self.place += length
        return self._window[at : at + length]

    def skip(self, length: int) -> None:
        """Past `length` bytes that nobody needs."""
        if length > self.left:
            raise Damaged("incomplete")
        self.place += length

    def skip_strings(self, count: int) -> None:
        """Past `count` strings, each a u64 of length and its bytes."""
        unpack = _U64.unpack_from
        while count:
            self._fill(WINDOW)
            window, at, passed = self._window, 0, 0
            try:
                # The one hot loop of reading a header: 300,000 turns for a large vocabulary.
                for passed in range(count):  # noqa: B007 - used behind the loop
                    at += 8 + unpack(window, at)[0]
                passed = count
            except (StructError, OverflowError):
                # The window ends before this one's length; or the length before was nonsense.
                if not passed:
                    raise Damaged("incomplete") from None
            count -= passed
            self.skip(at)

    def strings(self, count: int) -> Iterator[bytes]:
        """`count` strings; as `skip_strings`, with their bytes.

        Raises:
            Damaged: the file ends before, or one is longer than a window.
        """
        unpack = _U64.unpack_from
        while count:
            self._fill(WINDOW)
            window, at, size = self._window, 0, len(self._window)
            while count and at + 8 <= size:
                end = at + 8 + unpack(window, at)[0]
                if end > size:
                    break
                yield window[at + 8 : end]
                at = end
                count -= 1
            if count and not at:
                raise Damaged("incomplete")
            self.place += at

    def _fill(self, length: int) -> None:
        self._window = self._fetch(self.place, min(length, self.left))
        self._start = self.place
