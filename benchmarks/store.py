"""Large stores: finding, opening and memory. `python -m benchmarks.store [CONVERSATIONS]`.

Builds 10,000 conversations of ten messages and one of 20,000 in a temporary folder, then reports
milliseconds and MiB as one JSON line. Words are drawn as language does (Zipf), seed fixed.
"""

import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from llmchat.store.store import Store, open_store
from llmchat.values import Part

LONG = 20_000
WORDS = [f"word{number}" for number in range(20_000)]
WEIGHTS = [1 / (number + 1) for number in range(len(WORDS))]


def fill(store: Store, count: int, chance: random.Random) -> str:
    """The conversations; the id of the long one."""

    def text() -> tuple[Part, ...]:
        words = chance.choices(WORDS, WEIGHTS, k=chance.randrange(5, 120))
        return (Part(kind="text", text=" ".join(words)),)

    def conversation(length: int, title: str) -> str:
        chat = store.conversations.create(title=title)
        leaf = None
        for number in range(length):
            leaf = store.tree.add(chat.id, leaf, ("user", "assistant")[number % 2], text())
        store.tree.set_active(chat.id, leaf)
        return chat.id

    store.db.read("PRAGMA synchronous = OFF")
    for start in range(0, count, 500):
        with store.db.transaction():
            for number in range(start, min(count, start + 500)):
                conversation(10, " ".join(chance.choices(WORDS, WEIGHTS, k=4)) + f" {number}")
    with store.db.transaction():
        return conversation(LONG, "the long one")


def timed(work: Callable[[], object], times: int = 5) -> float:
    """The median milliseconds of several runs."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return round(sorted(taken)[times // 2], 1)


def main() -> None:
    """Build, measure, report."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(prefix="llmchat-bench-") as name:
        folder = Path(name)
        store = open_store(folder / "data" / "chats.db", folder / "writers", face="bench")
        long_one = fill(store, count, random.Random(1))
        store.close()

        def opened() -> Store:
            return open_store(folder / "data" / "chats.db", folder / "writers", face="bench")

        figures: dict[str, float] = {"conversations": count}
        figures["file_mib"] = round((folder / "data" / "chats.db").stat().st_size / 2**20, 1)
        figures["open_ms"] = timed(lambda: opened().close())
        store = opened()
        for label, words in (
            ("commonest", "word0"),
            ("common", "word10 word20"),
            ("rare", "word15000"),
            ("prefix", "word1"),
            ("none", "nothing"),
        ):
            figures[f"search_{label}_ms"] = timed(lambda words=words: store.search(words))  # type: ignore[misc]
        figures["list_ms"] = timed(lambda: store.conversations.list())
        leaf = store.conversations.get(long_one).active_leaf
        figures["long_branch_ms"] = timed(lambda: store.tree.branch(long_one, leaf), 3)
        branch = store.tree.branch(long_one, leaf)
        figures["long_messages"] = len(branch)
        figures["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        store.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
