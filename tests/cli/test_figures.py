"""How soon the command line answers, against an interpreter that does nothing: ratios."""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

from tests.cli.program import LLMCHAT

ROUNDS = 7


def seconds(command: list[str]) -> float:
    """Processor time of one run: a busy machine changes it less than the clock's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_the_version_and_the_list_come_at_once(tmp_path: Path):
    commands = {
        "nothing": [sys.executable, "-c", "pass"],
        "version": [LLMCHAT, "--version"],
        "list": [LLMCHAT, "list"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    median = {name: statistics.median(taken) for name, taken in times.items()}
    assert median["version"] <= 4 * median["nothing"], times
    assert median["list"] <= 20 * median["nothing"], times
