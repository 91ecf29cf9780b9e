"""`python -m benchmarks [--runs N] [--only WORD]`: measure, and write docs/performance.md."""

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import (
    constrained,
    disk,
    first_key,
    gaps,
    generation,
    library,
    loop_cpu,
    memory,
    neighbours,
    position,
    pulling,
    sequences,
    speculation,
    startup,
    store,
)
from benchmarks.measure import Figure
from tests.models import CACHE, starter

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def figures(home: Path, runs: int) -> dict[str, Callable[[], Figure]]:
    """Every measurement by name."""
    environ = os.environ | {"LLMCHAT_HOME": str(home)}
    return {
        "version": lambda: startup.compare(["--version"], "<= 4", environ, runs * 4),
        "list": lambda: startup.compare(["list"], "<= 20", environ, runs * 2),
        "list_500": lambda: library.listing(home, runs * 2),
        "header": lambda: library.header(runs * 4),
        "pull": lambda: pulling.measure(home, max(3, runs // 2)),
        "first_key": lambda: first_key.measure(home, CACHE / "elia-1.10.0", runs),
        "generation": lambda: generation.measure(starter(), home, runs),
        "sequences_1": lambda: sequences.measure(starter(), home, 1, ">= 0.97", runs),
        "sequences_4": lambda: sequences.measure(starter(), home, 4, ">= 0.95", runs),
        "sequences_8": lambda: sequences.measure(starter(), home, 8, ">= 0.95", runs),
        "copying": lambda: speculation.measure(starter(), home, copies=True, runs=runs),
        "guessing": lambda: speculation.measure(starter(), home, copies=False, runs=runs),
        "position": lambda: position.measure(starter(), home, runs),
        "gap": lambda: gaps.neighbour(starter(), home, runs),
        "stop_writing": lambda: gaps.stop_writing(starter(), home, runs),
        "stop_reading": lambda: gaps.stop_reading(starter(), home, runs),
        "death": lambda: gaps.death(starter(), home, runs),
        "beside_idle": lambda: memory.beside_idle(starter(), home, runs),
        "second_turn": lambda: memory.second_turn(starter(), home, runs),
        "alternatives": lambda: memory.alternatives(starter(), home, runs),
        "restart": lambda: disk.after_restart(starter(), home, runs),
        "constrained": lambda: constrained.measure(starter(), home, runs),
        "store_search": store.search,
        "store_open": store.open_long,
        "store_memory": store.memory,
        "neighbour": lambda: neighbours.measure(starter(), home, runs),
        "loop_cpu": lambda: loop_cpu.measure(starter(), runs),
    }


def row(figure: Figure) -> str:
    """One line of the table."""
    mark = "yes" if figure.reached else "**no**"
    return (
        f"| {figure.what} | {figure.against} | {figure.ours:.3g} {figure.unit} | "
        f"{figure.floor:.3g} {figure.unit} | {figure.ratio:.3f} | {figure.reach} | {mark} | "
        f"{figure.runs} | {figure.note} |"
    )


def page(rows: list[Figure]) -> str:
    """docs/performance.md."""
    machine = f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} CPU cores"
    lines = [
        "# Performance",
        "",
        "Written by `make bench`. Ratios of medians, measured side by side on one machine in the",
        "same minutes, alternating; absolute figures say only what this machine did that day.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}, Python {platform.python_version()}, "
        f"textual {version('textual')}, llama-cpp-python {version('llama-cpp-python')}, "
        "model: the starter (SmolLM2-135M-Instruct Q4_1).",
        "",
        "| what | against | llmchat | floor | ratio | to reach | reached | runs | spread |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row(figure) for figure in rows),
        "",
        "Generation is marginal: 256 tokens over t(320) - t(64), same threads, batch, context, KV",
        "type and positions, greedy, end tokens ignored; `benchmarks/bare_loop.py` is the floor.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what was asked for; the page is written only when everything was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        rows = []
        for name, measure in figures(Path(home), options.runs).items():
            if options.only in name:
                rows.append(measure())
                print(row(rows[-1]), flush=True)
    if not options.only:
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
