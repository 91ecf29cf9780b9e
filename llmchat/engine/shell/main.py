"""A worker process from its command line to its exit code, whatever its backend.

`main(argv, make_backend)` is what `python -m llmchat.engine.worker` and `...scripted` call. Owns
settling in: which descriptors stay, no core files, signals. The starter (starting.py) has already
given the process its own session, nothing to read, and a log for descriptors 1 and 2.
"""

import faulthandler
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from llmchat.engine.assignment import Assignment, Leaving, from_argument
from llmchat.engine.backend import Backend
from llmchat.engine.shell.serving import Shell


@runtime_checkable
class Attached(Protocol):
    """A backend that wants to know its shell: the scripted one, to spoil what leaves it."""

    shell: Shell | None


def main(argv: Sequence[str], make_backend: Callable[[Assignment], Backend]) -> int:
    """A worker's life, from its command line (the last argument) to its exit code.

    `make_backend` runs on the main thread after descriptors 1 and 2 lead to the log: import
    llama_cpp in it, not before. The caller passes the result to sys.exit.
    """
    assignment = from_argument(argv[-1])
    _settle(assignment)
    listener = socket.socket(fileno=assignment.listen_fd)
    backend = make_backend(assignment)
    shell = Shell(backend, assignment, listener)
    if isinstance(backend, Attached):
        backend.shell = shell
    try:
        code = shell.serve()
    except MemoryError:
        # The other thread still computes: the interpreter's own end would wait for it, or crash.
        sys.stderr.write("MemoryError\n")
        sys.stderr.flush()
        os._exit(Leaving.CRASHED)
    if shell.hung:
        os._exit(code)  # a thread that cannot be stopped would crash the interpreter's own end
    return code


def _settle(assignment: Assignment) -> None:
    for descriptor in (assignment.listen_fd, assignment.lock_fd):
        os.set_inheritable(descriptor, False)
    os.umask(0o077)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # ggml's own handler would start gdb. Ours writes which signal it was, for those clients that
    # are not the parent and cannot wait for us.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
