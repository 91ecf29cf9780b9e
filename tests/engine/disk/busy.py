"""A process that uses the folder like a worker in a hurry: `python -m ... FOLDER SEED`.

With a third argument N it kills itself at its N-th step on the folder (a file opened, renamed,
removed or cut): the moments between two writes are all reached, not only those that last.
"""

import os
import random
import signal
import sys
from pathlib import Path

import numpy as np

from llmchat.engine.disk import Folder, Shelf
from tests.engine.disk.states import HERE, anywhere, conversation, snapshot, state_of

ROUNDS = 30


def use(path: Path, seed: int, rounds: int = ROUNDS) -> None:
    """Put, find, read and forget, at random; whatever is read must be right."""
    chance = random.Random(seed)
    mine = Shelf(Folder(path), HERE, anywhere)
    for _ in range(rounds):
        number, length = chance.randrange(12), chance.randrange(256, 1500)
        tokens = conversation(number, length)
        candidate = mine.find(tokens)
        found = mine.read(candidate) if candidate else None
        if found is not None and candidate is not None:
            assert tuple(found.tokens[: candidate.at_least]) == tokens[: candidate.at_least]
            assert np.array_equal(found.state, state_of(found.tokens))
        mine.put(snapshot(tokens, f"{seed}-{number}"))
        if chance.random() < 0.05:
            mine.folder.forget(f"{seed}-{number}")


def die_at(step: int) -> None:
    """End this process by SIGKILL at its `step`-th touch of a file."""
    left = [step]

    def hook(event: str, _arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.rename", "os.remove", "os.truncate"):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    use(Path(sys.argv[1]), int(sys.argv[2]))
