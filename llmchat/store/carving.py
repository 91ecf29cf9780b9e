"""Rows out of a damaged SQLite file, page by page, without SQLite.

Owns the file format (sqlite.org/fileformat2.html): pages, cells, overflow chains, records, and the
write-ahead log over them. A row is found wherever a leaf page of a table is still whole, whatever
became of the header, the schema or the way to that page. Refuses to know any table, and trusts
nothing: what does not fit is passed over.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from llmchat.store.database import SqlValue

LEAF: Final = 0x0D
"""Type of a page that holds rows of a table."""
USUAL_PAGE: Final = 4096
"""SQLite's page size since 3.12, and ours; for a file whose header is lost."""
_MAGIC: Final = b"SQLite format 3\0"
_FIRST: Final = 100
"""Where the first page's content begins, after the file's header."""

Record = tuple[SqlValue, ...]


class Damaged(Exception):
    """A cell or a record that cannot be what it says it is."""


class Carver:
    """Reads every row of a file. `with` it, or `close` it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        header = self._file.read(_FIRST)
        size, self._reserved = _sizes(header)
        self._size = size
        self._count = -(-path.stat().st_size // size)
        self._log = _Log(path.with_name(path.name + "-wal"), size)
        self._count = max(self._count, self._log.pages)

    def __enter__(self) -> "Carver":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._log.close()

    def rows(self) -> Iterator[tuple[int, Record]]:
        """(rowid, values) of every row on every leaf page, pages that are free left out."""
        free = self._free_pages()
        for number in range(1, self._count + 1):
            if number not in free:
                yield from self._rows_of(self._page(number), _FIRST if number == 1 else 0)

    def _page(self, number: int) -> bytes:
        logged = self._log.page(number)
        if logged is not None:
            return logged
        self._file.seek((number - 1) * self._size)
        return self._file.read(self._size)

    def _free_pages(self) -> set[int]:
        """What was deleted must not come back: the free list, as far as it makes sense."""
        first = self._page(1)
        free: set[int] = set()
        if not first.startswith(_MAGIC):
            return free
        (trunk,) = struct.unpack_from(">I", first, 32)
        while 1 < trunk <= self._count and trunk not in free:
            page = self._page(trunk)
            if len(page) < self._size or page[0] == LEAF:
                return set()  # in use: the list is what is damaged
            next_, count = struct.unpack_from(">II", page)
            if count > self._size // 4 - 2:
                return set()
            free |= {trunk, *struct.unpack_from(f">{count}I", page, 8)}
            trunk = next_
        return free

    def _rows_of(self, page: bytes, start: int) -> Iterator[tuple[int, Record]]:
        if len(page) < start + 8 or page[start] != LEAF:
            return
        (count,) = struct.unpack_from(">H", page, start + 3)
        for index in range(count):
            place = start + 8 + 2 * index
            if place + 2 > len(page):
                return
            (offset,) = struct.unpack_from(">H", page, place)
            try:
                yield self._cell(page, offset)
            except (Damaged, struct.error):
                continue

    def _cell(self, page: bytes, offset: int) -> tuple[int, Record]:
        length, offset = varint(page, offset)
        rowid, offset = varint(page, offset)
        usable = self._size - self._reserved
        local = _local_bytes(length, usable)
        if length > self._count * self._size or offset + local > len(page):
            raise Damaged
        payload = page[offset : offset + local]
        if local < length:
            (overflow,) = struct.unpack_from(">I", page, offset + local)
            payload += self._overflow(overflow, length - local, usable - 4)
        return rowid, record(payload)

    def _overflow(self, number: int, length: int, each: int) -> bytes:
        """The rest of a long row: a chain of pages, each beginning with the next one's number."""
        parts: list[bytes] = []
        for _ in range(-(-length // each)):
            if not 1 < number <= self._count:
                raise Damaged
            page = self._page(number)
            (number,) = struct.unpack_from(">I", page)
            parts.append(page[4 : 4 + each])
        whole = b"".join(parts)[:length]
        if len(whole) < length:
            raise Damaged
        return whole


class _Log:
    """The pages that lie committed in a write-ahead log (fileformat2.html, section 4)."""

    def __init__(self, path: Path, page_size: int) -> None:
        self._places: dict[int, int] = {}
        self._file: BinaryIO | None = None
        self._size = page_size
        self.pages = 0
        if path.is_file():
            self._file = path.open("rb")
            self._index(self._file)

    def _index(self, file: BinaryIO) -> None:
        header = file.read(32)
        if len(header) < 32 or header[:3] != b"\x37\x7f\x06":
            return
        (size,) = struct.unpack_from(">I", header, 8)
        if size != self._size:
            return
        salts, place, pending = header[16:24], 32, dict[int, int]()
        while len(frame := file.read(24)) == 24 and frame[8:16] == salts:
            number, after = struct.unpack_from(">II", frame)
            pending[number] = place + 24
            if after:  # the frame commits
                self._places |= pending
                self.pages = after
                pending = {}
            place += 24 + size
            file.seek(place)

    def page(self, number: int) -> bytes | None:
        """The newest committed version, or None."""
        if self._file is None or number not in self._places:
            return None
        self._file.seek(self._places[number])
        return self._file.read(self._size)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


def _sizes(header: bytes) -> tuple[int, int]:
    """Page size and reserved bytes of each page; the usual ones when the header is lost."""
    if len(header) < _FIRST:
        return USUAL_PAGE, 0
    (size,) = struct.unpack_from(">H", header, 16)
    size = 65536 if size == 1 else size
    if size < 512 or size & (size - 1):
        return USUAL_PAGE, 0
    return size, header[20] if header[20] <= size - 480 else 0


def _local_bytes(length: int, usable: int) -> int:
    """How much of a payload lies on its own page (section 1.6)."""
    most = usable - 35
    if length <= most:
        return length
    least = (usable - 12) * 32 // 255 - 23
    some = least + (length - least) % (usable - 4)
    return some if some <= most else least


def varint(data: bytes, offset: int) -> tuple[int, int]:
    """A 64-bit integer of one to nine bytes, and where it ends."""
    value = 0
    for index in range(9):
        if offset >= len(data):
            raise Damaged
        byte = data[offset]
        offset += 1
        if index == 8:
            value = value << 8 | byte
            break
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value - (1 << 64) if value >= 1 << 63 else value, offset


def record(payload: bytes) -> Record:
    """A row's values (section 2.1). Text that is no UTF-8 keeps what is.

    Raises:
        Damaged: the types do not fill the payload exactly.
    """
    end, offset = varint(payload, 0)
    types: list[int] = []
    while offset < end:
        kind, offset = varint(payload, offset)
        types.append(kind)
    if offset != end or end > len(payload):
        raise Damaged
    values: list[SqlValue] = []
    for kind in types:
        value, offset = _value(payload, offset, kind)
        values.append(value)
    if offset != len(payload):
        raise Damaged
    return tuple(values)


_INTEGERS: Final[Sequence[int]] = (0, 1, 2, 3, 4, 6, 8)
"""Bytes of the serial types 0 to 6."""


def _value(payload: bytes, offset: int, kind: int) -> tuple[SqlValue, int]:
    if kind == 0:
        return None, offset
    if kind in (8, 9):
        return kind - 8, offset
    if kind < 0 or kind in (10, 11):
        raise Damaged
    length = _INTEGERS[kind] if kind < 7 else 8 if kind == 7 else (kind - 12) // 2
    data = payload[offset : offset + length]
    if len(data) < length:
        raise Damaged
    offset += length
    if kind < 7:
        return int.from_bytes(data, "big", signed=True), offset
    if kind == 7:
        return float(struct.unpack(">d", data)[0]), offset
    return (data.decode("utf-8", "replace") if kind % 2 else data), offset
