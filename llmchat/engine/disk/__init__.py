"""KV states that outlive a worker: what is kept in `<cache>/kv/`, under which key, and how much.

Owns the folder's files, their checks, the one budget and the one lock of all workers. Pure Python:
it copies bytes and never asks what they mean, so that core may count, clear and forget them too.
Refuses llama.cpp, settings, and the choice of what is worth saving (`engine/worker/`).
"""

from llmchat.engine.disk.entry import Found, Meta, Snapshot
from llmchat.engine.disk.folder import Folder, Kept
from llmchat.engine.disk.keys import BLOCK, Circumstances
from llmchat.engine.disk.reader import Reader
from llmchat.engine.disk.shelf import Candidate, Shelf
from llmchat.engine.disk.writer import Writer

__all__ = [
    "BLOCK",
    "Candidate",
    "Circumstances",
    "Folder",
    "Found",
    "Kept",
    "Meta",
    "Reader",
    "Shelf",
    "Snapshot",
    "Writer",
]
