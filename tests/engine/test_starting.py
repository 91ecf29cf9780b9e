"""What a worker gets from its starter, and what its log tells afterwards."""

import os
import time
from pathlib import Path

import pytest

from llmchat.engine.client.starting import (
    allowed,
    describe_exit,
    end_in,
    find_log,
    last_lines,
    left_by_itself,
    new_log,
)
from llmchat.engine.registry import Registry


def test_the_environment_is_an_allow_list():
    given = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "LLMCHAT_HOME": "/x",
        "GGML_CUDA_FORCE_MMQ": "1",
        "HF_TOKEN": "hf_secret",
        "LLMCHAT_HUB_TOKEN": "secret",
        "OPENAI_API_KEY": "secret",
        "SSH_AUTH_SOCK": "/tmp/agent",
        "EDITOR": "vi",
    }
    assert sorted(allowed(given)) == ["GGML_CUDA_FORCE_MMQ", "LC_ALL", "LLMCHAT_HOME", "PATH"]


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit 0"), (3, "exit 3"), (-9, "SIGKILL"), (-6, "SIGABRT")]
)
def test_exits_have_names(code: int, words: str):
    assert describe_exit(code) == words


def test_logs_are_private_and_the_oldest_go(tmp_path: Path):
    logs = tmp_path / "logs"
    made = [new_log(logs, f"name{number % 2}") for number in range(25)]
    kept = sorted(logs.iterdir())
    assert len(kept) == 10
    assert set(kept) == set(made[-10:])
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept)
    assert find_log(logs, "name0") == made[24]
    assert find_log(logs, "other") is None


def test_last_lines_leave_stacks_out_and_are_cleaned(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text(
        "loading\n\x1b[31mred\x1b[0m\n"
        "Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\n    f()\n    ^^^\nValueError: bad\n'
        "GGML_ASSERT(x) failed\nFatal Python error: Aborted\n\n"
        'Current thread 0x00007f (most recent call first):\n  File "y.py", line 2 in g\n'
        "Extension modules: numpy (total: 1)\n"
    )
    lines = last_lines(log)
    assert lines == (
        "loading",
        "␛[31mred␛[0m",
        "ValueError: bad",
        "GGML_ASSERT(x) failed",
        "Fatal Python error: Aborted",
    )
    assert end_in(lines) == "SIGABRT"
    assert not left_by_itself(lines)


def test_a_log_that_is_not_there_has_no_lines(tmp_path: Path):
    assert last_lines(tmp_path / "none") == ()
    assert last_lines(None) == ()
    assert end_in(()) == ""


def test_a_long_log_is_read_from_its_end(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("x" * 1_000_000 + "\nlast\n")
    assert last_lines(log)[-1] == "last"
    assert max(map(len, last_lines(log))) <= 300


def test_deaths_are_counted_once_a_process_and_forgotten_after_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    registry = Registry(tmp_path)
    for pid in (1, 1, 2):
        registry.note_death("n", pid, "SIGKILL")
    assert [death.pid for death in registry.deaths("n")] == [1, 2]
    assert not registry.keeps_dying("n")
    registry.note_death("n", 3, "exit 1")
    assert registry.keeps_dying("n")
    assert registry.deaths("n")[-1].how == "exit 1"
    assert not registry.keeps_dying("other")
    later = time.time() + 61
    with monkeypatch.context() as clock:
        clock.setattr("llmchat.engine.registry.time.time", lambda: later)
        assert registry.deaths("n") == []
    with (tmp_path / "n.deaths").open("a") as file:
        file.write("garbage\n1 2\n")
    assert registry.keeps_dying("n")
    registry.forget_deaths("n")
    assert registry.deaths("n") == []


def test_deaths_count_for_the_model_whichever_of_its_workers_died(tmp_path: Path):
    registry = Registry(tmp_path)
    for slot, pid in (("", 1), (".2", 2), (".3", 3)):
        registry.note_death(f"name{slot}", pid, "SIGSEGV")
    assert registry.keeps_dying("name")
    assert registry.keeps_dying("name.2")
    registry.forget_deaths("name")
    assert not registry.keeps_dying("name.3")


def test_a_lock_is_held_by_one_and_its_file_stays(tmp_path: Path):
    registry = Registry(tmp_path)
    with registry.lock("n") as first:
        assert first is not None
        assert registry.held("n")
        with registry.lock("n") as second:
            assert second is None
    assert not registry.held("n")
    assert (tmp_path / "n.lock").exists()


def test_a_lock_goes_with_an_inherited_descriptor(tmp_path: Path):
    registry = Registry(tmp_path)
    with registry.lock("n") as descriptor:
        assert descriptor is not None
        copy = os.dup(descriptor)
    assert registry.held("n")
    os.close(copy)
    assert not registry.held("n")
