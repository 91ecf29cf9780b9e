"""How many threads pay: the physical cores that this process may use.

Hyper-threads share one floating-point unit, so a second thread on a core costs more than it gives.
"""

import os
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def physical_cores() -> int:
    """Physical cores in this process's affinity mask and CPU quota; at least 1."""
    allowed = _allowed()
    cores = {_core_of(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(len(cores))))


def logical_cores() -> int:
    """What this process may run on at once, hyper-threads counted; at least 1."""
    return max(1, len(_allowed()))


def _allowed() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _core_of(cpu: int) -> tuple[str, str]:
    folder = _TOPOLOGY / f"cpu{cpu}" / "topology"
    try:
        package = (folder / "physical_package_id").read_text().strip()
        return package, (folder / "core_id").read_text().strip()
    except OSError:
        return "", str(cpu)


def _quota(default: int) -> int:
    """Whole CPUs of the cgroup's limit (`cpu.max` is `quota period` in microseconds, or `max`)."""
    try:
        quota, period = _CGROUP.read_text().split()
        return default if quota == "max" else max(1, round(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return default
