"""How much RAM may be taken: what the kernel has, within what this process's cgroups allow.

In a container the machine's free memory says nothing: whoever passes the cgroup's limit is killed
without a word. Every level above counts, since each has a limit of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_UNLIMITED: Final = 1 << 60
"""Version 1 writes a huge number where version 2 writes `max`."""


def free_ram(root: Path = Path("/")) -> int:
    """Bytes, the least of MemAvailable and what each cgroup has left; 0: nobody knows.

    `root` is where `proc` and `sys` lie, for tests.
    """
    limits = [*_available(root / "proc/meminfo"), *_left(root)]
    return min(limits, default=0)


def _available(meminfo: Path) -> Iterator[int]:
    for name, value in _table(meminfo):
        if name == "MemAvailable:":
            yield value * 1024


def _left(root: Path) -> Iterator[int]:
    """What each of this process's cgroups has left; those without a limit are left out."""
    base = root / "sys/fs/cgroup"
    for hierarchy, controllers, path in _groups(root / "proc/self/cgroup"):
        if hierarchy == "0":
            files = ("memory.max", "memory.current", "inactive_file")
            yield from _upwards(base, path, *files)
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _upwards(base / "memory", path, *files)


def _groups(listed: Path) -> Iterator[tuple[str, str, str]]:
    """Hierarchy, controllers and path of each line, e.g. `0::/user.slice`."""
    try:
        lines = listed.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines or ["0::/"]:
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield parts[0], parts[1], parts[2]


def _upwards(base: Path, path: str, limit: str, used: str, cached: str) -> Iterator[int]:
    """From a cgroup up to `base`. In a container the path may be the host's: then only `base`."""
    inside = Path(path.lstrip("/"))
    for folder in {base, *(base / part for part in (inside, *inside.parents))}:
        if ".." in folder.parts:
            continue
        try:
            most = (folder / limit).read_text().strip()
            now = int((folder / used).read_text())
            stat = dict(_table(folder / "memory.stat"))
            if most != "max" and int(most) < _UNLIMITED:
                # Cached file pages count as used, and are given back when needed.
                yield max(1, int(most) - now + stat.get(cached, 0))
        except (OSError, ValueError):
            continue


def _table(path: Path) -> Iterator[tuple[str, int]]:
    """Lines of a name and a number."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[1].isdecimal():
            yield words[0], int(words[1])
