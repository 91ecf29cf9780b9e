"""Whether a worker ended for want of memory, on recorded files of the kernel and lines of logs."""

from pathlib import Path

import pytest

from llmchat.engine.client.starved import death, kills

EVENTS = "low 0\nhigh 2\nmax 7\noom 3\noom_kill {count}\noom_group_kill 0\n"
ABORTED = (
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "what(): std::bad_alloc",
)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


GROUPS = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 0),
        ({"proc/vmstat": "pgfault 9\noom_kill 4\n"}, 4),
        ({"proc/vmstat": "pgfault 9\n"}, 0),
        (  # version 2
            {
                "proc/vmstat": "oom_kill 4\n",
                "proc/self/cgroup": "0::/user.slice/a.scope\n",
                f"{GROUPS}/user.slice/a.scope/memory.events": EVENTS.format(count=2),
            },
            2,
        ),
        (  # in a container, with the host's path
            {
                "proc/self/cgroup": "0::/../../docker/x\n",
                f"{GROUPS}/memory.events": EVENTS.format(count=1),
            },
            1,
        ),
        (  # the root of version 2 counts nothing
            {"proc/self/cgroup": "0::/\n", "proc/vmstat": "oom_kill 6\n"},
            6,
        ),
        (  # version 1
            {
                "proc/vmstat": "oom_kill 4\n",
                "proc/self/cgroup": "4:memory:/a\n1:cpu:/b\n0::/\n",
                f"{GROUPS}/memory/a/memory.oom_control": (
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
                ),
            },
            3,
        ),
        (  # nonsense
            {"proc/self/cgroup": "::\n\n0", f"{GROUPS}/memory.events": "oom_kill many\n"},
            0,
        ),
    ],
)
def test_what_the_kernel_counted(tmp_path: Path, files: dict[str, str], expected: int):
    write(tmp_path, files)
    assert kills(tmp_path) == expected


def test_here_it_counts_too():
    assert kills() >= 0


@pytest.mark.parametrize(
    ("how", "lines", "by_kernel", "key"),
    [
        ("SIGKILL", (), False, "engine.killed"),
        ("", (), False, "engine.killed"),
        ("SIGKILL", (), True, "engine.out_of_memory"),
        ("", (), True, "engine.out_of_memory"),
        ("SIGSEGV", (), True, "engine.died"),
        ("SIGABRT", ABORTED, False, "engine.out_of_memory"),
        ("SIGABRT", ("GGML_ASSERT(x) failed",), False, "engine.died"),
        ("SIGABRT", ("CUDA error: out of memory",), False, "engine.out_of_memory"),
        ("exit 1", ("libgomp: Thread creation failed: x",), False, "engine.out_of_memory"),
        ("exit 70", ("MemoryError",), False, "engine.out_of_memory"),
        ("exit 70", ("RuntimeError: no",), False, "engine.died"),
    ],
)
def test_what_is_said(how: str, lines: tuple[str, ...], by_kernel: bool, key: str):
    error = death(how, lines, by_kernel=by_kernel)
    assert error.key == key
    assert error.last_lines == lines
    assert error.recoverable
    assert error.hint
    assert "\n" not in error.sentence + error.hint
    assert (how or "SIGKILL" if by_kernel else how) in error.sentence
    assert "memory" in error.sentence + error.hint or key == "engine.died"
