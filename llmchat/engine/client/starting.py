"""Starting a worker process, and learning how it ended.

Owns the command line, the environment's allow-list (no tokens reach a worker), the log of each run,
and the child's end. The worker is detached: its own session, nothing to read, everything it writes
in its log, no descriptor but its socket and its lock.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from llmchat.engine.assignment import LEFT, Assignment, Leaving, to_argument
from llmchat.engine.registry import Registry
from llmchat.paths import ensure_private
from llmchat.text.cleaning import clean_line

_PREFIXES = (
    *("LLMCHAT_", "CUDA_", "HIP_", "GGML_", "HSA_", "ROCR_", "GPU_", "NVIDIA_", "OMP_"),
    *("LC_", "LANG", "XDG_"),
)
_NAMES = frozenset(
    (
        *("HOME", "PATH", "TMPDIR", "TZ", "USER", "LOGNAME", "VIRTUAL_ENV"),
        *("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
        *("LLAMA_CPP_LIB_PATH", "KMP_DUPLICATE_LIB_OK"),
    )
)
_STACKS = (
    "Traceback (most recent call last)",
    "Current thread 0x",
    "Thread 0x",
    "Stack (most recent call first)",
    "Exception in",
    "Extension modules",
)
_FATAL_LINE = "Fatal Python error: "
_SECRETS = ("TOKEN", "SECRET", "PASSWORD", "API_KEY")
_LOGS_KEPT = 10
_TAIL = 16 * 1024
_LAST_LINES = 12
_POLL = 0.02
PATIENCE = 2.0
"""Seconds between asking a worker to leave, TERM and KILL."""


def allowed(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the environment a worker gets."""
    return {
        name: value
        for name, value in environ.items()
        if (name in _NAMES or name.startswith(_PREFIXES))
        and not any(word in name.upper() for word in _SECRETS)
    }


class Child:
    """A worker that this process started. A thread waits for it, so that no zombie stays."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.pid = process.pid
        self.ended = threading.Event()
        self.how = ""
        """The signal's name, or `exit N`; set before `ended`."""
        self._process = process
        threading.Thread(target=self._wait, name=f"worker-{self.pid}", daemon=True).start()

    def _wait(self) -> None:
        self.how = describe_exit(self._process.wait())
        self.ended.set()


def describe_exit(returncode: int) -> str:
    """`SIGKILL` for -9, `exit 1` for 1."""
    if returncode >= 0:
        return f"exit {returncode}"
    with suppress(ValueError):
        return signal.Signals(-returncode).name
    return f"signal {-returncode}"


CLEAN_EXITS = (describe_exit(Leaving.CLEAN), describe_exit(Leaving.LOAD_FAILED))


def new_log(logs: Path, name: str) -> Path:
    """An empty log for one run (0600); the oldest beyond ten go.

    Raises:
        ConfigError: the folder cannot be used.
    """
    ensure_private(logs)
    old = sorted(logs.glob("worker-*.log"), key=lambda path: path.name.split("-")[2:])
    for path in old[: max(0, len(old) - _LOGS_KEPT + 1)]:
        path.unlink(missing_ok=True)
    path = logs / f"worker-{name}-{time.time_ns()}.log"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    return path


def find_log(logs: Path, name: str) -> Path | None:
    """The log of the run that is, or was, the last of this name."""
    return max(logs.glob(f"worker-{name}-*.log"), default=None)


def start(
    module: str,
    assignment: Assignment,
    listener: socket.socket,
    *,
    log: Path,
    environ: Mapping[str, str],
) -> Child:
    """Start `python -m module` with the assignment; the caller still closes its own descriptors.

    Raises:
        OSError: no process can be made.
    """
    # -P: the working folder is "/", and nothing that lies there is ours to import.
    command: Sequence[str] = (
        sys.executable,
        "-P",
        "-m",
        module,
        assignment.model.name,
        to_argument(assignment),
    )
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**allowed(environ), "GGML_NO_BACKTRACE": "1"},
            start_new_session=True,
            close_fds=True,
            pass_fds=(listener.fileno(), assignment.lock_fd),
        )
    return Child(process)


def last_lines(log: Path | None) -> tuple[str, ...]:
    """The log's last lines, cleaned; of a Python stack only the line that says what happened."""
    if log is None:
        return ()
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    lines, in_stack = [], False
    for line in text.splitlines():
        if line.startswith(_STACKS):
            in_stack = True
        elif line.strip() and not (in_stack and line.startswith(" ")):
            in_stack = False
            lines.append(clean_line(line, 300))
    return tuple(lines[-_LAST_LINES:])


_FATAL = {
    "Aborted": "SIGABRT",
    "Segmentation fault": "SIGSEGV",
    "Bus error": "SIGBUS",
    "Floating point exception": "SIGFPE",
    "Floating-point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
}


def end_in(lines: Sequence[str]) -> str:
    """How a worker ended by what it wrote, for those who are not its parent; empty: no trace."""
    for line in reversed(lines):
        if line.startswith(LEFT):
            return CLEAN_EXITS[0]
        if line.startswith(_FATAL_LINE):
            return _FATAL.get(line.removeprefix(_FATAL_LINE).strip(), "")
    return ""


def left_by_itself(lines: Sequence[str]) -> bool:
    """Whether the worker wrote that it leaves."""
    return any(line.startswith(LEFT) for line in lines)


async def end(pid: int, registry: Registry, name: str) -> None:
    """TERM, then KILL, until the worker's lock is free. The caller knows that `pid` is the worker.

    While the lock is held the worker lives, so `pid` cannot have become somebody else's.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if await gone_within(PATIENCE, registry, name):
            return


async def gone_within(seconds: float, registry: Registry, name: str) -> bool:
    """Whether the worker's process ends in time; its socket is gone then, too."""
    for _ in range(round(seconds / _POLL)):
        if registry.remove_stale(name):
            return True
        await asyncio.sleep(_POLL)
    return False
