"""Generation through `llmchat run` against the bare loop: 256 tokens over t(320) - t(64)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Figure, alternate, median, seconds, spread

PROMPT = "Explain how a bicycle stays upright, in detail."
# What the starter's own template puts before a conversation that has no system prompt.
SYSTEM = ("system", "You are a helpful AI assistant named SmolLM, trained by Hugging Face")
SHORT, LONG = 64, 320
LLMCHAT = [sys.executable, "-m", "llmchat"]


def through_run(model: Path, n_threads: int, environ: dict[str, str]) -> float:
    """Seconds for the 256 tokens between the 64th and the 320th, prompt to pipe."""

    def ask(n: int) -> float:
        command = [*LLMCHAT, "run", str(model), PROMPT, "--no-save", "--ignore-eos", "--temp", "0"]
        command += ["-n", str(n), "--threads", str(n_threads), "--ctx-size", "2048"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return seconds(lambda: subprocess.run(command, check=True, env=environ, **quiet))  # type: ignore[call-overload]

    return ask(LONG) - ask(SHORT)


@contextmanager
def bare_loop(model: Path, n_threads: int) -> Iterator[subprocess.Popen[str]]:
    """The floor, loaded and waiting."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare_loop", str(model), str(n_threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait(timeout=30)


def through_bare(process: subprocess.Popen[str]) -> float:
    """The same difference, in the bare loop, after a prompt of as many tokens."""
    assert process.stdout is not None
    assert process.stdin is not None
    text = "".join(
        f"<|im_start|>{role}\n{words}<|im_end|>\n" for role, words in (SYSTEM, ("user", PROMPT))
    )
    line = f"{text}<|im_start|>assistant\n".replace("\n", "\\n")
    times = []
    for n in (LONG, SHORT):
        process.stdin.write(f"{n} {line}\n")
        process.stdin.flush()
        times.append(float(process.stdout.readline()))
    return times[0] - times[1]


def measure(model: Path, home: Path, runs: int = 5) -> Figure:
    """One row: tokens per second through the whole path, and through the bare loop."""
    n_threads = len(os.sched_getaffinity(0))
    environ = os.environ | {"LLMCHAT_HOME": str(home)}
    load = [*LLMCHAT, "load", str(model), "--threads", str(n_threads), "--ctx-size", "2048"]
    subprocess.run(load, check=True, env=environ, capture_output=True)
    try:
        with bare_loop(model, n_threads) as floor:
            through_run(model, n_threads, environ)
            through_bare(floor)
            ours, theirs = alternate(
                runs,
                lambda: through_run(model, n_threads, environ),
                lambda: through_bare(floor),
            )
    finally:
        subprocess.run([*LLMCHAT, "stop", "--all"], env=environ, capture_output=True, check=False)
    tokens = LONG - SHORT
    mine, other = tokens / median(ours), tokens / median(theirs)
    return Figure(
        what="generation, one sequence, `llmchat run` to a pipe",
        against="bare loop over the C API",
        ours=mine,
        floor=other,
        ratio=mine / other,
        reach=">= 0.95",
        unit="tokens/s",
        runs=runs,
        note=f"{n_threads} threads; seconds {spread(ours)} against {spread(theirs)}",
    )
