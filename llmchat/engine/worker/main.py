"""Entry of a worker process: `python -m llmchat.engine.worker ASSIGNMENT`.

Owns the order of the start: no core files and no debugger on anyone's terminal before llama.cpp is
loaded, which the shell imports nothing of. The rest of being a process is the shell's.
"""

import os
import resource
import sys

from llmchat.engine.assignment import Assignment
from llmchat.engine.backend import Backend
from llmchat.engine.shell import main as shell
from llmchat.errors import ModelFileError
from llmchat.gguf import describe, read_header


def main(argv: list[str] | None = None) -> int:
    """Run a worker; returns its exit code."""
    os.environ["GGML_NO_BACKTRACE"] = "1"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return shell.main(sys.argv if argv is None else argv, make_backend)


def makes_vectors(path: str) -> bool:
    """Whether a file's header says that its model embeds or ranks. What is damaged loads, to fail.

    Both backends know a bad file, and say why.
    """
    try:
        about = describe(read_header(path))
    except ModelFileError:
        return False
    return "embedding" in about.capabilities or "rerank" in about.capabilities


def make_backend(assignment: Assignment) -> Backend:
    """The real backend. llama_cpp is imported here: only after descriptors 1 and 2 are a log."""
    if makes_vectors(assignment.model.path):
        from llmchat.engine.worker.vectors.backend import VectorBackend

        return VectorBackend()
    from llmchat.engine.worker.loop import LlamaBackend

    return LlamaBackend(assignment.kv)
