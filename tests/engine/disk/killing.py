"""Kills writers at fixed and at random moments, and looks at what they leave.

`python -m tests.engine.disk.killing FOLDER FIRST COUNT`: a process of its own, since it forks.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from llmchat.engine.disk import Folder
from tests.engine.disk import busy
from tests.engine.disk.states import check_everything, shelf

BUDGET = 500_000
ONE = 1500 * 68 + 4096
"""The largest entry, with its meta file."""


def in_child(work: Callable[[], None]) -> int:
    """Fork; the child works until it is killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def _until_it_dies(path: Path, seed: int, step: int | None) -> None:
    if step is not None:
        busy.die_at(step)
    busy.use(path, seed, rounds=10_000)


def kill_one(path: Path, seed: int) -> None:
    """One writer's violent end, and the next start."""
    chance = random.Random(seed)
    step = chance.randrange(200) if seed % 2 else None
    pid = in_child(lambda: _until_it_dies(path, seed, step))
    if step is None:
        time.sleep(chance.random() * 0.03)  # anywhere: in the middle of a write, most likely
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), status
    size = sum(found.stat().st_size for found in path.iterdir())
    assert size <= BUDGET + ONE, size
    folder = Folder(path)
    check_everything(folder)  # even before anybody has swept
    folder.sweep()
    left = {found.name for found in path.iterdir()} - {"lock", "budget", "forgotten"}
    assert not [name for name in left if name.endswith(".tmp")], left
    assert 2 * check_everything(folder) == len(left), left


def main() -> None:
    """COUNT writers, one after the other, all in the same folder."""
    path, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    shelf(path, BUDGET)
    for seed in range(first, first + count):
        kill_one(path, seed)
    assert check_everything(Folder(path)) > 2  # they did get to write


if __name__ == "__main__":
    main()
