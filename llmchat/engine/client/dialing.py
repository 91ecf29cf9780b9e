"""Connecting to a worker, over whatever transport its file leads to.

Owns the client's side of the challenge (transport.py). Nobody listening, somebody else listening,
and somebody who does not know the key are all the same: there is no worker.
"""

import asyncio
import hmac
import secrets
import socket
from pathlib import Path

from llmchat.engine.transport import LOOPBACK, NONCE, PROOF, Address, proof, read_address

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_PATIENCE = 10.0
"""Seconds for a worker's Python to come up and prove itself."""


async def dial(path: Path) -> Streams | None:
    """A connection to the worker at `path`; None if there is none."""
    address = read_address(path)
    try:
        if address is None:
            return await asyncio.open_unix_connection(path)
        return await _dial_tcp(address)
    except (FileNotFoundError, ConnectionError):
        return None


async def _dial_tcp(address: Address) -> Streams | None:
    reader, writer = await asyncio.open_connection(LOOPBACK, address.port)
    try:
        async with asyncio.timeout(_PATIENCE):
            if await _prove(reader, writer, address.secret):
                return reader, writer
    except (TimeoutError, EOFError, OSError):
        pass
    except BaseException:
        writer.close()
        raise
    writer.close()
    return None


async def _prove(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> bool:
    """Whether the other side knows the key; then it has our proof, too."""
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ours = secrets.token_bytes(NONCE)
    writer.write(ours)
    theirs = await reader.readexactly(NONCE)
    said = await reader.readexactly(PROOF)
    if not hmac.compare_digest(said, proof(secret, b"worker", ours, theirs)):
        return False
    writer.write(proof(secret, b"client", ours, theirs))
    return True
