"""Free RAM, on recorded files of the kernel."""

from pathlib import Path

from llmchat.engine.worker.ram import free_ram

GIB = 1 << 30
MEMINFO = "MemTotal: 33554432 kB\nMemFree: 1048576 kB\nMemAvailable: 16777216 kB\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def group(folder: str, limit: str, used: int, cached: int = 0) -> dict[str, str]:
    base = f"sys/fs/cgroup{folder}"
    return {
        f"{base}/memory.max": f"{limit}\n",
        f"{base}/memory.current": f"{used}\n",
        f"{base}/memory.stat": f"anon 5\ninactive_file {cached}\n",
    }


def test_without_a_limit_it_is_what_the_kernel_has(tmp_path: Path):
    write(tmp_path, {"proc/self/cgroup": "0::/\n"})
    assert free_ram(tmp_path) == 16 * GIB
    write(tmp_path, group("", "max", 3 * GIB))
    assert free_ram(tmp_path) == 16 * GIB


def test_a_container_has_what_its_limit_leaves_and_the_cache_gives_back(tmp_path: Path):
    write(tmp_path, {"proc/self/cgroup": "0::/\n", **group("", str(4 * GIB), 3 * GIB, GIB // 2)})
    assert free_ram(tmp_path) == GIB + GIB // 2


def test_every_level_above_counts(tmp_path: Path):
    files = {
        "proc/self/cgroup": "0::/user.slice/app.scope\n",
        **group("/user.slice", str(8 * GIB), 6 * GIB),
        **group("/user.slice/app.scope", "max", GIB),
    }
    write(tmp_path, files)
    assert free_ram(tmp_path) == 2 * GIB


def test_a_path_of_the_host_inside_a_container(tmp_path: Path):
    files = {"proc/self/cgroup": "0::/../../docker/abc\n", **group("", str(2 * GIB), GIB)}
    write(tmp_path, files)
    assert free_ram(tmp_path) == GIB


def test_version_one(tmp_path: Path):
    base = "sys/fs/cgroup/memory/docker/x"
    write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n",
            f"{base}/memory.limit_in_bytes": str(3 * GIB),
            f"{base}/memory.usage_in_bytes": str(2 * GIB),
            f"{base}/memory.stat": f"total_inactive_file {GIB}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
        },
    )
    assert free_ram(tmp_path) == 2 * GIB


def test_a_limit_that_is_passed_already_leaves_nothing(tmp_path: Path):
    write(tmp_path, {"proc/self/cgroup": "0::/\n", **group("", str(GIB), 2 * GIB)})
    assert free_ram(tmp_path) <= 1


def test_where_nothing_is_known_it_is_zero(tmp_path: Path):
    assert free_ram(tmp_path) <= 1
    assert free_ram() > 0  # here
