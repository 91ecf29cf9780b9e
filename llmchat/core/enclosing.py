"""The bytes of attachments in a file of ours: put in when it is written, taken out when it is read.

Owns how much of them a file may hold. Each attachment is there once, with the first conversation
that has it. What is too much, or no longer on this disk, goes without its bytes: its hash is still
there, and whoever writes the file is told the names.
"""

from msgspec.structs import replace

from llmchat.errors import NotFound
from llmchat.store.blobs import Blobs
from llmchat.values import Part, SavedConversation

MOST_BYTES = 96 * 2**20
"""Of all attachments of a file: 128 MiB as base64, half of what an import reads."""


class Enclosing:
    """The attachments of one file that is being written."""

    def __init__(self, blobs: Blobs, *, most: int = MOST_BYTES) -> None:
        self._blobs = blobs
        self._left = most
        self._seen: set[str] = set()
        self.left_out: list[str] = []
        """Names of what had to stay behind."""

    def put_in(self, saved: SavedConversation) -> SavedConversation:
        """The conversation with the bytes of what it has attached."""
        found: dict[str, bytes] = {}
        for part in attached(saved):
            digest = str(part.blob)
            if digest in self._seen:
                continue
            self._seen.add(digest)
            data = self._read(digest)
            if data is None:
                self.left_out.append(part.meta.get("name") or digest)
            else:
                found[digest] = data
                self._left -= len(data)
        return replace(saved, blobs=found) if found else saved

    def _read(self, digest: str) -> bytes | None:
        try:
            return self._blobs.get(digest, most=self._left)
        except NotFound:
            return None


def take_out(saved: SavedConversation, blobs: Blobs) -> SavedConversation:
    """Keep the bytes that a checked file brought along; the conversation without them.

    Raises:
        StoreError: the disk refuses.
    """
    for digest in {str(part.blob) for part in attached(saved)}:
        data = saved.blobs.get(digest)
        if data is None:
            blobs.keep(digest)  # perhaps it is here, and has no owner yet
        else:
            blobs.put(data)
    return replace(saved, blobs={}) if saved.blobs else saved


def attached(saved: SavedConversation) -> list[Part]:
    """Every part that has bytes elsewhere."""
    return [part for message in saved.messages for part in message.parts if part.blob is not None]
