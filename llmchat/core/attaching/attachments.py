"""From files to the parts of a message: `rt.attachments`.

Owns what becomes of each kind: text and code as they are, PDF and Word as their text, images as
blobs by content hash, everything else refused with a sentence. Runs on the caller's thread.
"""

import stat
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from llmchat.core.attaching.decoding import decode
from llmchat.core.attaching.documents import Documents
from llmchat.core.attaching.finding import find, is_pipe
from llmchat.errors import LlmchatError, NotFound, UsageError
from llmchat.store.blobs import Blobs
from llmchat.values import Part

MAX_BYTES = 64 * 2**20
"""Bytes of one file."""

MAX_TEXT = 16 * 2**20
"""Characters of all the files of one pattern: about four million tokens."""

IMAGES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)
"""How the images that models are shown begin; WebP's sign lies further in."""


class Attached(Struct, frozen=True, kw_only=True):
    """What became of a path or a pattern."""

    parts: tuple[Part, ...]
    paths: tuple[str, ...] = ()
    """Where each part was read, absolute: to read it again. No message keeps it."""
    passed_over: tuple[str, ...] = ()
    """Names of files that fit the pattern and are no text; images too, unless named alone."""


class Attachments:
    """Reads files into parts. `part.meta`: `name`, `size` in bytes, `media`, and `encoding`."""

    def __init__(self, blobs: Path) -> None:
        self._blobs = Blobs(blobs)
        self._documents = Documents()

    def close(self) -> None:
        """End what is being read on other threads: they get an error."""
        self._documents.close()

    def read(self, pattern: str, *, base: Path | None = None) -> Attached:
        """The files that a path, a folder or a pattern means.

        Args:
            pattern: see `finding.find`.
            base: where relative paths begin; the current folder.

        Raises:
            NotFound: there is none, or it cannot be read.
            UsageError: it is no text, too large, or a document that cannot be taken apart.
        """
        base = base or Path.cwd()
        paths = find(pattern, base)
        if len(paths) == 1:
            only = self.read_file(paths[0], paths[0].name)
            return Attached(parts=(only,), paths=(str(paths[0].absolute()),))
        parts: list[Part] = []
        read: list[str] = []
        passed_over: list[str] = []
        for path in paths:
            name = _name(path, base)
            try:
                part = self.read_file(path, name)
            except LlmchatError:
                part = None
            if part is None or part.kind == "image":
                passed_over.append(name)
            else:
                parts.append(part)
                read.append(str(path.absolute()))
            if sum(len(part.text) for part in parts) > MAX_TEXT:
                raise UsageError("core.files_too_large", name=pattern, limit=MAX_TEXT >> 20)
        if not parts:
            raise UsageError("core.no_text_fits", pattern=pattern, count=len(paths))
        return Attached(parts=tuple(parts), paths=tuple(read), passed_over=tuple(passed_over))

    def read_file(self, path: Path, name: str) -> Part:
        """One file as a part, named `name`.

        Raises:
            NotFound: it cannot be read.
            UsageError: it is no text, too large, or a document that cannot be taken apart.
        """
        name = name.encode("utf-8", "replace").decode()  # a message is text, its names too
        data = _bytes(path, name)
        meta = {"name": name, "size": str(len(data))}
        media = _image(data)
        if media is not None:
            return Part(kind="image", blob=self._blobs.put(data), meta={**meta, "media": media})
        if b"%PDF-" in data[:1024]:
            text = self._documents.text_of(data, "pdf", name)
            return Part(kind="file", text=text, meta={**meta, "media": "application/pdf"})
        if data.startswith(b"PK\x03\x04") and path.suffix.lower() in (".docx", ".docm"):
            text = self._documents.text_of(data, "docx", name)
            return Part(kind="file", text=text, meta={**meta, "media": "application/docx"})
        found = decode(data)
        if found is None:
            raise UsageError("core.file_not_text", name=name)
        if found.encoding != "utf-8":
            meta["encoding"] = found.encoding
        return Part(kind="file", text=found.text, meta={**meta, "media": "text/plain"})


def about_tokens(parts: Sequence[Part]) -> int:
    """Roughly how many tokens these parts take, when no model is there to count.

    A quarter of the bytes, as English text and code do.
    """
    return sum((len(part.text.encode("utf-8", "replace")) + 3) // 4 for part in parts)


def _name(path: Path, base: Path) -> str:
    """As it is shown and told to the model: from `base` if it lies there."""
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)


def _bytes(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(path.stat().st_mode) and not is_pipe(path):
                raise NotFound("core.not_a_file", path=name)
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotFound("core.file_unreadable", path=name, reason=reason) from error
    if len(data) > MAX_BYTES:
        raise UsageError("core.files_too_large", name=name, limit=MAX_BYTES >> 20)
    return data


def _image(data: bytes) -> str | None:
    """The media type of an image by its first bytes."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return next((media for sign, media in IMAGES if data.startswith(sign)), None)
