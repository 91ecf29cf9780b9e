"""A file's header on the hub, read without the file: ranges from its start until it is complete.

Owns the ranges, growing from 1 MiB, and a limit on what a header may weigh. Refuses to keep bytes
and to try again.
"""

from typing import Final

from llmchat.errors import HubError
from llmchat.gguf import Header, read_ranges
from llmchat.hub.client import HubClient
from llmchat.hub.search import once

MOST: Final = 64 * 1024 * 1024
"""Bytes; the largest vocabularies make headers of about 16 MiB."""
_FIRST: Final = 1024 * 1024


def read_remote(client: HubClient, repo: str, commit: str, path: str, size: int) -> Header:
    """The header of a file of `size` bytes at a commit.

    Raises:
        ModelFileError: no GGUF, or out of bounds. NotFound, HubError: it cannot be had.
    """

    def read() -> Header:
        where = client.locate(repo, commit, path)
        start = _Start(client, where.url, size)
        return read_ranges(start.fetch, size, path.rpartition("/")[2])

    return once(client, read)


class _Start:
    """The first bytes of a file, as many as were asked for."""

    def __init__(self, client: HubClient, url: str, size: int) -> None:
        self._client, self._url, self._size = client, url, size
        self._got = bytearray()

    def fetch(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer where the file ends.

        Raises:
            HubError: the header is larger than any model's. Transient: the connection broke.
        """
        if offset + length > MOST:
            raise HubError("hub.bad_answer", what="header", value=f"> {MOST} bytes")
        while len(self._got) < min(offset + length, self._size):
            self._more(max(offset + length, 2 * len(self._got), _FIRST))
        return bytes(self._got[offset : offset + length])

    def _more(self, wanted: int) -> None:
        start, end = len(self._got), min(wanted, self._size)
        with self._client.stream(self._url, start, end, self._size) as response:
            # A server that ignores ranges sends everything: what is here already is passed over.
            passed = 0 if response.status_code == 206 else -start
            for piece in response.iter_raw():
                fresh = piece[max(0, -passed) :] if passed < 0 else piece
                passed += len(piece)
                self._got += fresh
                if len(self._got) >= end:
                    return
        if len(self._got) < end:
            raise HubError("hub.bad_answer", what="length", value=f"{len(self._got)} < {end}")
