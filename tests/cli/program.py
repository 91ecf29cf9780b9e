"""The installed program in a subprocess: what it writes where, and its exit code."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

LLMCHAT = str(Path(sys.executable).with_name("llmchat"))


def run(
    *words: str,
    given: str | bytes | None = "",
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """`llmchat WORDS` with `given` on stdin, everything in pipes."""
    import os

    data = given.encode() if isinstance(given, str) else given
    done = subprocess.run(
        [LLMCHAT, *words],
        input=data,
        capture_output=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **(env or {})},
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )
