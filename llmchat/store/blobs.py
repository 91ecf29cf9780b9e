"""Attached bytes by their content hash: `<data>/blobs/ab/abcd…`, private, written once.

Owns the files; who refers to them is the database's. A blob is whole under its name or not there:
it is written beside it and renamed.
"""

import hashlib
import os
import re
from pathlib import Path

from llmchat.errors import NotFound, StoreError
from llmchat.paths import ensure_private
from llmchat.store.ids import new_id

_HASH = re.compile("[0-9a-f]{64}")


class Blobs:
    """The blobs of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        """Keep `data`; its sha256 in hex.

        Raises:
            StoreError: the disk refuses.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        try:
            if path.is_file():
                return digest
            ensure_private(self._folder)
            ensure_private(path.parent)
            part = path.with_name(f"{digest}.{new_id()}.part")
            try:
                with os.fdopen(
                    os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb"
                ) as f:
                    f.write(data)
                    f.flush()
                    os.fsync(f.fileno())
                part.rename(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError("store.blob_unwritable", path=path, reason=reason) from error
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of that hash.

        Raises:
            NotFound: they are not here, or no longer what they were.
        """
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise NotFound("store.no_blob", digest=digest) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise NotFound("store.no_blob", digest=digest)
        return data

    def _path(self, digest: str) -> Path:
        if not _HASH.fullmatch(digest):
            raise NotFound("store.no_blob", digest=digest)
        return self._folder / digest[:2] / digest
