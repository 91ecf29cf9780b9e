"""`llmchat bench`: rows as llama-bench names them, for people and for programs; Ctrl+C is 130."""

import csv
import io
import json
import signal
import subprocess
from pathlib import Path

import pytest

from llmchat.core.benchmarking import Plan, rows, wants
from llmchat.values import Wants
from tests.cli.program import LLMCHAT, run

pytestmark = pytest.mark.usefixtures("script")

FEW = ["-p", "64", "-n", "8", "-r", "2"]


def test_the_rows_of_a_plan():
    plan = Plan(prompt=512, generate=128, sequences=(1, 4, 8))
    names = [row.name for row in rows(plan, 64)]
    assert names == [
        *("pp512", "pp512+p"),
        *("tg128", "tg128 x4", "tg128 x8"),
        *("tg128+p", "tg128+p x4", "tg128+p x8"),
    ]
    assert [row.name for row in rows(plan, 4)][-1] == "tg128+p x4"
    apart = Plan(prompt=512, generate=128, sequences=(1,), prefix=False)
    assert [row.name for row in rows(apart, 64)] == ["pp512", "tg128"]
    assert [row.name for row in rows(Plan(prompt=0, sequences=(2,)), 64)] == ["tg128 x2"]


def test_the_context_holds_the_largest_row_unless_one_is_asked_for():
    plan = Plan(prompt=512, generate=128, sequences=(1, 8))
    n_ctx = wants(plan, Wants()).n_ctx
    assert n_ctx is not None
    assert n_ctx >= 512 + 8 * 128
    assert wants(plan, Wants(n_ctx=100)).n_ctx == 100


def test_a_table(model: str):
    done = run("bench", model, *FEW)
    assert done.returncode == 0
    heading, *lines = done.stdout.splitlines()
    assert heading.split() == ["MODEL", "SIZE", "BACKEND", "THREADS", "TEST", "T/S"]
    assert [line.split("    ")[-2].strip() for line in lines] == ["pp64", "pp64+p", "tg8", "tg8+p"]
    assert all("±" in line for line in lines)
    assert "at most 1 replies" in done.stderr  # the scripted worker writes one at a time


def test_json_and_csv(model: str, script):
    script("rate=2000;words=50")
    found = json.loads(run("bench", model, *FEW, "--json", "--no-prefix").stdout)
    assert [row["test"] for row in found] == ["pp64", "tg8"]
    assert all(len(row["speeds"]) == 2 and row["mean"] > 0 for row in found)
    text = run("bench", model, *FEW, "--csv", "-p", "0").stdout
    [row] = list(csv.DictReader(io.StringIO(text)))
    assert (row["test"], row["sequences"]) == ("tg8", "1")
    assert float(row["mean"]) > 0


@pytest.mark.parametrize(
    "words",
    [["--sequences", "4,2"], ["--sequences", "0"], ["--sequences", "x"], ["--json", "--csv"],
     ["-p", "0", "-n", "1"], ["-r", "0"]],
)  # fmt: skip
def test_what_cannot_be_measured(model: str, words: list[str]):
    assert run("bench", model, *words).returncode == 2


def test_ctrl_c_keeps_what_is_done_and_is_130(model: str, script):
    script("rate=20;words=100000")
    command = [LLMCHAT, "bench", model, "-p", "8", "-n", "100000", "--ctx-size", "4096", "-r", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as benching:
        assert benching.stdout is not None
        assert benching.stdout.readline().startswith("MODEL")
        assert " pp8 " in benching.stdout.readline()
        benching.send_signal(signal.SIGINT)
        assert benching.wait(timeout=30) == 130


@pytest.mark.model
def test_the_real_engine_writes_several_at_once(starter: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LLMCHAT_ENGINE")
    words = ["-p", "48", "-n", "8", "-r", "1", "--sequences", "1,2", "--json"]
    found = json.loads(run("bench", str(starter), *words).stdout)
    assert [row["test"] for row in found] == [
        *("pp48", "pp48+p", "tg8", "tg8 x2", "tg8+p", "tg8+p x2"),
    ]
    assert all(row["mean"] > 0 for row in found)
