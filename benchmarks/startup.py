"""How long the command takes to say something, against starting Python."""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Figure, alternate, median, seconds, spread


def installed() -> str:
    """The `llmchat` script of this environment."""
    beside = Path(sys.executable).with_name("llmchat")
    found = str(beside) if beside.is_file() else shutil.which("llmchat")
    if not found:
        raise SystemExit("llmchat is not installed in this environment: make setup")
    return found


def compare(arguments: list[str], reach: str, environ: dict[str, str], runs: int) -> Figure:
    """`llmchat ARGUMENTS` against `python -c pass`."""

    def start(command: list[str]) -> float:
        return seconds(
            lambda: subprocess.run(command, check=True, env=environ, capture_output=True)
        )

    ours_command, floor_command = [installed(), *arguments], [sys.executable, "-c", "pass"]
    start(ours_command)
    ours, floor = alternate(runs, lambda: start(ours_command), lambda: start(floor_command))
    mine, other = median(ours) * 1000, median(floor) * 1000
    return Figure(
        what=f"`llmchat {' '.join(arguments)}`",
        against="`python -c pass`",
        ours=mine,
        floor=other,
        ratio=mine / other,
        reach=reach,
        unit="ms",
        runs=runs,
        note=f"ms {spread([t * 1000 for t in ours])}",
    )
