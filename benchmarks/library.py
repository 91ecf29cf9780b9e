"""The library's marks: a long list the second time, and the header with the largest vocabulary."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Figure, median, seconds, spread
from benchmarks.startup import installed
from llmchat.gguf import read_header
from tests.written import Written, write

MODELS = 500
LIST_MARK = 300.0
HEADER_MARK = 50.0
TOKENS = 262_144
SMALL = Written("gemma3", 2, 64, 128, 2, 1, 32, vocab=TOKENS, tied=True)


def listing(home: Path, runs: int) -> Figure:
    """`llmchat list` over 500 models that it has seen before, Python's own start taken off."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(MODELS):
            path = folder / f"o{number}" / f"m{number}-Q8_0.gguf"
            path.parent.mkdir()
            path.write_bytes(b"GGUF" + bytes(1000) + b"%d" % number)
        environ = os.environ | {
            "LLMCHAT_HOME": str(home),
            "LLMCHAT_LIBRARY_FOLDERS": str(folder),
        }

        def listed() -> float:
            done = []
            took = seconds(lambda: done.append(_output([installed(), "list", "-q"], environ)))
            assert len(done[0].split()) >= MODELS, "the folder is not listed"
            return took

        listed()
        ours = [listed() for _ in range(runs)]
        bare = [seconds(lambda: _output([sys.executable, "-c", "pass"], environ)) for _ in ours]
    times = [(mine - median(bare)) * 1000 for mine in ours]
    return _against_mark(f"`llmchat list`, {MODELS} models, second time", times, LIST_MARK)


def header(runs: int) -> Figure:
    """Reading the header of a model with 262,144 tokens: processor time, file in the page cache."""
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name), "vocabulary", SMALL)
        times = []
        for _ in range(runs):
            began = time.thread_time()
            read_header(path)
            times.append((time.thread_time() - began) * 1000)
    return _against_mark(f"header with {TOKENS:,} tokens", times, HEADER_MARK)


def _output(command: list[str], environ: dict[str, str]) -> str:
    return subprocess.run(command, check=True, env=environ, capture_output=True, text=True).stdout


def _against_mark(what: str, times: list[float], mark: float) -> Figure:
    return Figure(
        what=what,
        against="the mark",
        ours=median(times),
        floor=mark,
        ratio=median(times) / mark,
        reach="<= 1",
        unit="ms",
        runs=len(times),
        note=f"ms {spread(times)}",
    )
