"""`import`, `cp`, `alias` and `rm` through the installed program: answers, sentences, codes."""

import json
from pathlib import Path

import pytest

from tests.cli.program import run
from tests.core.test_models import put
from tests.unit.gguf.crafted import gguf


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-Q4_0.gguf"
    path.write_bytes(gguf())
    return path


def test_a_models_life_under_names_of_ones_own(file: Path, tmp_path: Path):
    done = run("import", str(file), "--copy", "--name", "tiny")
    assert (done.returncode, done.stdout) == (0, "tiny\n"), done.stderr
    assert run("alias", "t", "tiny").returncode == 0
    assert run("cp", "t", "cool").stdout == "cool\n"
    assert run("config", "set", "models.cool.sampling.temperature", "0.1").returncode == 0
    assert run("list", "-q").stdout == "cool\ntiny\n"
    assert json.loads(run("alias", "--json").stdout) == {"t": "tiny", "cool": "tiny"}
    assert "name          cool" in run("show", "cool").stdout
    gone = run("rm", "-y", "cool")
    assert gone.returncode == 0
    assert "only" in gone.stderr or "the model stays" in gone.stderr
    assert run("list", "-q").stdout == "tiny\n"
    said = run("rm", "t", "--dry-run")
    assert f"tiny: frees {file.stat().st_size / 1000:.1f} kB" in said.stderr
    assert run("rm", "-y", "t").returncode == 0
    assert run("list", "-q").stdout == ""
    assert not list((tmp_path / "hf").rglob("*.gguf"))
    assert file.exists()


def test_a_set_with_a_part_missing_is_told(tmp_path: Path):
    put(tmp_path / "hf", "o/split", "m-Q4_0-00002-of-00002.gguf", gguf())
    listed = run("list")
    assert "o/split:Q4_0 has 1 of 2 parts here: `llmchat pull o/split:Q4_0`" in listed.stderr
    assert listed.stdout == ""
    assert run("list", "-q").stderr == ""
    assert run("rm", "-y", "o/split:Q4_0").returncode == 0
    assert run("list").stderr.count("o/split") == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["import", "absent.gguf"], 3, "absent.gguf"),
        (["import", "tiny-Q4_0.gguf", "--name", "a b"], 2, "cannot be a name"),
        (["alias", "x", "X"], 2, "itself"),
        (["alias", "--remove"], 2, "one name"),
        (["alias", "--remove", "absent"], 3, "absent"),
        (["cp", "absent", "x"], 3, "absent"),
    ],
)
def test_what_cannot_be_is_a_sentence(file: Path, words: list[str], code: int, said: str, capsys):
    from llmchat.cli.main import main

    words = [str(file) if word == file.name else word for word in words]
    assert main(words) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""
