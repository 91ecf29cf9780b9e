"""How fast 1 GB comes from a hub on loopback, hash included, against `hf download` without one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.file_hub import NAME, REPO
from benchmarks.measure import Figure, alternate, median, seconds, spread
from benchmarks.startup import installed

SIZE = 10**9
_BLOCK = 16 * 1024 * 1024


@contextmanager
def _hub(folder: Path) -> Iterator[str]:
    """A hub process of one file of `SIZE` bytes; its address."""
    path = folder / NAME
    with path.open("wb") as file:
        file.write(b"GGUF")
        left = SIZE - 4
        while left:
            piece = os.urandom(min(_BLOCK, left))
            left -= file.write(piece)
    command = [sys.executable, "-m", "benchmarks.file_hub", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def measure(home: Path, runs: int) -> Figure:
    """`llmchat pull` against `hf download`, each into an empty cache that is removed after it."""
    folder = home / "pulling"
    folder.mkdir()
    if shutil.disk_usage(folder).free < 4 * SIZE:
        raise SystemExit(f"{folder} has not the room for this measurement")
    with _hub(folder) as endpoint:
        cache = folder / "hf"
        environ = os.environ | {
            "LLMCHAT_HOME": str(home),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        theirs = str(Path(sys.executable).with_name("hf"))

        def timed(command: list[str]) -> float:
            took = seconds(
                lambda: subprocess.run(command, check=True, env=environ, capture_output=True)
            )
            shutil.rmtree(cache)
            return took

        def ours() -> float:
            return timed([installed(), "pull", f"{REPO}:Q8_0"])

        def floor() -> float:
            return timed([theirs, "download", REPO, NAME])

        mine, other = alternate(runs, ours, floor)
    shutil.rmtree(folder)
    return Figure(
        what="`llmchat pull` of 1 GB from a hub on loopback, sha256 compared",
        against="`hf download`, which compares none",
        ours=SIZE / 1e6 / median(mine),
        floor=SIZE / 1e6 / median(other),
        ratio=median(other) / median(mine),
        reach=">= 1.0",
        unit="MB/s",
        runs=runs,
        note=f"s {spread(mine)} against {spread(other)}",
    )
