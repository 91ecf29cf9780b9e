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


def main(argv: list[str] | None = None) -> int:
    """Run a worker; returns its exit code."""
    os.environ["GGML_NO_BACKTRACE"] = "1"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return shell.main(sys.argv if argv is None else argv, make_backend)


def make_backend(assignment: Assignment) -> Backend:
    """The real backend. llama_cpp is imported here: only after descriptors 1 and 2 are a log."""
    from llmchat.engine.worker.loop import LlamaBackend

    return LlamaBackend(assignment.kv)
