"""Whether a worker ended for want of memory: what the kernel counts, and what the log says.

The kernel ends a process without a word; it counts it, in the process's cgroup and for the whole
machine. llama.cpp and Python write it before they end. Refuses how a process ended (`starting.py`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llmchat.errors import WorkerDied
from llmchat.text import say

_WORDS: Final = (
    "std::bad_alloc",
    "MemoryError",
    "out of memory",  # CUDA
    "Thread creation failed",  # libgomp
)
_COUNTED: Final = "oom_kill"


def kills(root: Path = Path("/")) -> int:
    """How many processes the kernel has ended for want of memory; 0 where it does not count.

    In our cgroup, which a worker shares with its starter; in the whole machine where there is none.
    `root` is where `proc` and `sys` lie, for tests.
    """
    for path in (*_own(root), root / "proc/vmstat"):
        counted = _count(path)
        if counted is not None:
            return counted
    return 0


def _own(root: Path) -> list[Path]:
    """The files that may count for our cgroup. In a container the path may be the host's."""
    base = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    found = []
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        inside = path.strip("/")
        if ".." in inside.split("/"):
            inside = ""
        if hierarchy == "0":
            found += [base / place / "memory.events" for place in (inside, "")]
        elif "memory" in controllers.split(","):
            found += [base / "memory" / place / "memory.oom_control" for place in (inside, "")]
    return found


def _count(path: Path) -> int | None:
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return None
    counts = [row[1] for row in rows if len(row) == 2 and row[0] == _COUNTED]
    return int(counts[0]) if counts and counts[0].isdecimal() else None


def death(how: str, lines: tuple[str, ...], *, by_kernel: bool) -> WorkerDied:
    """What to say of a worker that ended by `how` (empty: no trace) with these last lines.

    `by_kernel`: the kernel has ended processes for want of memory since the worker was met.
    """
    killed = how in ("", "SIGKILL")
    signal = how or say("engine.no_trace")
    if (killed and by_kernel) or _says_so(lines):
        return WorkerDied("engine.out_of_memory", signal=how or "SIGKILL", last_lines=lines)
    key = "engine.killed" if killed else "engine.died"
    return WorkerDied(key, signal=signal, last_lines=lines)


def _says_so(lines: Sequence[str]) -> bool:
    return any(words in line for line in lines for words in _WORDS)
