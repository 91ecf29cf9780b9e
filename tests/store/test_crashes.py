"""Promises that hold when a process is killed at any moment. Full counts: `make torture`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SEED = os.environ.get("LLMCHAT_TORTURE_SEED", "20260801")


def run(what: str, folder: Path, count: int, seconds: int = 170) -> dict[str, object]:
    """Runs `crashing.py`; its report. The seed is printed so that a failure can be repeated."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.crashing", what, str(folder), str(count), SEED],
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, f"seed {SEED}\n{done.stderr}"
    report: dict[str, object] = json.loads(done.stdout)
    sys.stdout.write(f"{what}: seed {SEED}: {report}\n")
    return report


def test_nothing_acknowledged_is_lost_to_kill_9(tmp_path):
    report = run("kill-writers", tmp_path, 120)
    assert report["kills"] == 120
    # The kills did land while replies were being written.
    assert int(str(report["interrupted"])) >= 12
    assert int(str(report["promises"])) >= 300


def test_several_processes_write_into_one_store(tmp_path):
    report = run("many-writers", tmp_path, 5)
    assert int(str(report["promises"])) >= 40


def test_a_killed_migration_is_at_one_step_or_the_next(tmp_path):
    report = run("kill-migrations", tmp_path, 50)
    steps = report["steps_done"]
    assert isinstance(steps, dict)
    assert len(steps) >= 2, "the kills did not land inside the migration"


@pytest.mark.torture
@pytest.mark.timeout(1200)
def test_nothing_acknowledged_is_lost_to_a_thousand_kills(tmp_path):
    run("kill-writers", tmp_path, 1000, seconds=1100)


@pytest.mark.torture
@pytest.mark.timeout(300)
def test_several_processes_write_for_a_minute(tmp_path):
    run("many-writers", tmp_path, 60)
