"""kill -9 at any moment of a write: nothing wrong loads, and nothing is left lying about."""

import subprocess
import sys
from pathlib import Path

import pytest


def _kill(path: Path, first: int, count: int) -> None:
    command = [sys.executable, "-m", "tests.engine.disk.killing", str(path), str(first), str(count)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr


def test_forty_writers_are_killed(tmp_path: Path):
    _kill(tmp_path / "kv", 1, 40)


@pytest.mark.torture
def test_a_thousand_writers_are_killed(tmp_path: Path):
    _kill(tmp_path / "kv", 1000, 1000)
