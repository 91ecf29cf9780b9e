"""What a starter tells the worker that it starts: one JSON argument on its command line.

Owns the shape of that hand-over, inherited descriptors included. Both sides are always the same
installation of llmchat, so it may change freely; the wire may not.
"""

from enum import IntEnum

import msgspec
from msgspec import Struct

from llmchat.values import ModelFile, Wants

DEFAULT_KEEP_ALIVE = 300.0
LEFT = "llmchat: leaving: "
"""Begins the log line of a worker that leaves by itself, for clients who are not its parent."""


class Leaving(IntEnum):
    """A worker's exit codes, when no signal ended it."""

    CLEAN = 0
    LOAD_FAILED = 3
    CRASHED = 70
    """The inference thread ended by an exception."""
    HUNG = 75
    """The backend did not stop when asked."""


class Limits(Struct, frozen=True, kw_only=True):
    """How patient a worker is. Seconds and bytes; tests pass smaller ones."""

    first_client: float = 10.0
    """A worker that nobody greets leaves, nothing loaded."""
    orphaned_load: float = 2.0
    """A load that nobody waits for any more is given up."""
    proceed: float = 120.0
    """How long a plan waits for its Proceed."""
    socket_check: float = 30.0
    """How often it looks whether its socket still lies in the run folder."""
    outbox_bytes: int = 8 * 1024 * 1024
    unread: float = 60.0
    """A client that reads nothing for this long while something runs is let go."""
    stuck: float = 30.0
    """Without clients, busy, and its loop not moving for this long: it leaves."""
    farewell: float = 10.0
    """From stopping the backend to leaving without it."""
    connections: int = 256
    challenge: float = 10.0
    """A TCP client that does not prove itself for this long is let go."""


class Assignment(Struct, frozen=True, kw_only=True):
    """One worker's task. The descriptors are inherited: a listening socket, and its held lock."""

    model: ModelFile
    wants: Wants
    name: str
    """The digest that names socket, lock, log and deaths (registry.digest)."""
    run: str
    """The run folder."""
    machine: str
    """The folder of locks that hold for the whole machine."""
    listen_fd: int
    lock_fd: int
    keep_alive: float = DEFAULT_KEEP_ALIVE
    kv: str = ""
    """The folder of saved KV states; empty: there is none."""
    script: str = ""
    """For the scripted worker only."""
    limits: Limits = Limits()


def to_argument(assignment: Assignment) -> str:
    """The command-line argument for a worker."""
    return msgspec.json.encode(assignment).decode()


def from_argument(argument: str) -> Assignment:
    """The assignment in a command-line argument.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return msgspec.json.decode(argument, type=Assignment)
