"""`llmchat pull`: the plan first, a bar on terminals only, Ctrl+C without a mess."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import LLMCHAT, run
from tests.hub.conftest import FILE, REF, REPO, gguf_bytes
from tests.hub.server import Fault, Hub
from tests.tty.terminal import Terminal

CONTENT = gguf_bytes(3_000_000)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        hub.put(REPO, {FILE: CONTENT})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def pulled(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "hf").rglob("*.gguf"))


def test_the_answer_is_the_name_to_run(hub: Hub, tmp_path: Path):
    done = run("pull", REF)
    assert (done.returncode, done.stdout) == (0, f"{REF}\n")
    assert "3.0 MB from Hugging Face" in done.stderr
    assert "\x1b" not in done.stderr
    (path,) = pulled(tmp_path)
    assert path.read_bytes() == CONTENT
    sent = hub.sent
    again = run("pull", REF)
    assert (again.returncode, again.stdout) == (0, f"{REF}\n")
    assert "already here" in again.stderr
    assert hub.sent == sent


def test_a_quant_by_its_own_flag(hub: Hub):
    assert run("pull", REPO, "-q", "q4_0").stdout == f"{REF}\n"
    missing = run("get", REPO, "-q", "Q9_X")
    assert missing.returncode == 3
    assert "Q4_0" in missing.stderr


def test_a_dry_run_fetches_nothing(hub: Hub, tmp_path: Path):
    done = run("pull", REF, "--dry-run")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split() == [FILE, "3.0", "MB", "0", "B"]
    plan = json.loads(run("pull", REF, "--dry-run", "--json").stdout)
    assert (plan["name"], plan["size"], plan["here"], plan["complete"]) == (
        REF,
        3_000_000,
        0,
        False,
    )
    assert pulled(tmp_path) == []


def test_json_is_a_line_a_step(hub: Hub):
    done = run("pull", REF, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == ""
    assert lines[-1]["model"]["name"] == REF
    amounts = [line["done"] for line in lines[:-1]]
    assert amounts == sorted(amounts)


@pytest.mark.tty
def test_a_bar_on_a_terminal_that_never_goes_backwards(hub: Hub):
    with Terminal([LLMCHAT, "pull", REF]) as terminal:
        assert terminal.wait_exit() == 0
        shares = [
            int(part.split(b"%")[0].split()[-1])
            for part in bytes(terminal.raw).split(b"\r\x1b[K")
            if b"%" in part
        ]
        assert shares == sorted(shares)
        assert "is here" in terminal.text


def stalled(hub: Hub) -> None:
    hub.cdn_faults.extend([Fault(cut=2_500_000, end="stall")] * 9)


@pytest.mark.tty
def test_ctrl_c_while_the_server_is_silent(hub: Hub, tmp_path: Path):
    stalled(hub)
    with Terminal([LLMCHAT, "pull", REF]) as terminal:
        terminal.wait(lambda: hub.sent >= 2_500_000, "the server to fall silent")
        terminal.press("ctrl+c")
        assert terminal.wait_exit(timeout=15) == 130
        assert "Stopped." in terminal.text
        assert terminal.restored()
    assert pulled(tmp_path) == []
    assert run("list", "-q").stdout == ""
    hub.cdn_faults.clear()
    assert run("pull", REF).returncode == 0
    (path,) = pulled(tmp_path)
    assert path.read_bytes() == CONTENT


def test_int_to_a_pull_in_a_pipe(hub: Hub, tmp_path: Path):
    stalled(hub)
    with subprocess.Popen(
        [LLMCHAT, "pull", REF, "--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as pulling:
        assert pulling.stdout is not None
        pulling.stdout.readline()
        pulling.send_signal(signal.SIGINT)
        assert pulling.wait(timeout=15) == 130
        pulling.stdout.read()
    assert pulled(tmp_path) == []


@pytest.mark.parametrize(
    ("ref", "code"), [("nonsense", 3), ("o/absent", 3), ("a:b:c/d", 2), ("", 2), ("./file", 2)]
)
def test_what_cannot_be_pulled(hub: Hub, ref: str, code: int):
    done = run("pull", ref)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_no_network_is_code_5():
    done = run("pull", REF)  # HF_ENDPOINT points at a closed port
    assert done.returncode == 5


@pytest.mark.tty
def test_run_offers_to_pull_what_is_missing(hub: Hub, tmp_path: Path):
    with Terminal([LLMCHAT, "run", REF, "hi"]) as terminal:
        terminal.wait_for("Fetch it now")
        terminal.type("n\n")
        assert terminal.wait_exit() == 3
    assert pulled(tmp_path) == []
