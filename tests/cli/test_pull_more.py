"""`llmchat pull` of several, held back, refused, and of a hub that does not answer."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.cli.amounts import parse_rate
from tests.cli.program import LLMCHAT, run
from tests.hub.conftest import FILE, REF, REPO, gguf_bytes
from tests.hub.server import Fault, Hub
from tests.tty.terminal import Terminal

CONTENT = gguf_bytes(1_000_000)
TOKEN = "hf_PlantedTokenPlantedTokenPlanted"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        hub.put(REPO, {FILE: CONTENT})
        hub.put("o/other", {"other-Q8_0.gguf": gguf_bytes(500_000, seed=5)})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def test_several_one_after_another(hub: Hub):
    done = run("pull", REF, "o/other:Q8_0", REF)
    assert (done.returncode, done.stdout) == (0, f"{REF}\no/other:Q8_0\n")
    assert "2 models, 1.5 MB to fetch" in done.stderr
    assert hub.count("cdn", "GET") == 2


def test_all_are_looked_up_before_the_first_byte(hub: Hub):
    done = run("pull", REF, "o/absent")
    assert (done.returncode, done.stdout) == (3, "")
    assert hub.sent == 0


def test_one_that_fails_does_not_hold_up_the_others(hub: Hub):
    hub.cdn_faults.append(Fault(flip=10))
    done = run("pull", REF, "o/other:Q8_0", "--json")
    assert done.returncode == 5
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    ends = {line["name"]: line for line in lines if line["stage"] in ("failed", "done")}
    assert ends[REF]["error"] == "hub.checksum"
    assert ends["o/other:Q8_0"]["model"]["name"] == "o/other:Q8_0"


def test_a_rate_is_a_number(hub: Hub):
    done = run("pull", REF, "--limit-rate", "fast")
    assert done.returncode == 2
    assert "500K" in done.stderr


@pytest.mark.parametrize("rate", ["0", "-5", "fast", "1T", "", "nan", "1e9", "K", "1.2.3"])
def test_what_is_no_rate(rate: str):
    with pytest.raises(ValueError, match=f"^{re.escape(rate)}$"):
        parse_rate(rate)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1000", 1000),
        ("500K", 512_000),
        ("2MiB", 2_097_152),
        ("1.5m/s", 1_572_864),
        ("1 GB", 2**30),
    ],
)
def test_rates(text: str, rate: float):
    assert parse_rate(text) == rate


def test_a_limit_is_kept(hub: Hub, tmp_path: Path):
    began = time.monotonic()
    done = run("pull", REF, "--limit-rate", "1MiB", "--json")
    assert time.monotonic() - began >= 0.7
    assert done.returncode == 0
    rates = [json.loads(line).get("rate", 0) for line in done.stdout.splitlines()]
    assert max(rates) < 3_000_000


def test_a_drafter_is_named_and_fetched_when_asked(hub: Hub):
    draft = "mtp-model-Q4_0.gguf"
    hub.put(REPO, {FILE: CONTENT, draft: gguf_bytes(5000), "mmproj-F16.gguf": gguf_bytes(700)})
    said = run("pull", REF, "--dry-run")
    assert f"Also there: {draft}" in said.stderr
    whole = json.loads(run("pull", REF, "--drafter", "--dry-run", "--json").stdout)
    assert (whole["drafter"], whole["projector"]) == (draft, "mmproj-F16.gguf")
    assert whole["size"] == 1_000_000 + 5000 + 700
    assert run("pull", REF, "--drafter").returncode == 0
    assert run("list", "-q").stdout == f"{REF}\n", "a drafter is no model to talk to"


# Refusals: a sentence, the next step, a code; and the token goes to the hub alone.

REFUSALS = [
    (401, "GatedRepo", 5, "licence", "hf auth login"),
    (404, "RepoNotFound", 3, "no repository", "Check the name"),
    (403, "", 5, "account", "HF_TOKEN"),
    (410, "", 3, "removed", "another"),
    (429, "", 5, "429", "later"),
    *(
        pytest.param(*case, marks=pytest.mark.torture)
        for case in [
            (403, "GatedRepo", 5, "licence", "hf auth login"),
            (401, "RepoNotFound", 3, "private", "HF_TOKEN"),
            (404, "RevisionNotFound", 3, "revision", "newest"),
            (451, "", 5, "HTTP 451", "browser"),
            (500, "", 5, "500", "Check the network"),
        ]
    ),
]


@pytest.mark.parametrize(("status", "code", "exit_code", "sentence", "step"), REFUSALS)
def test_a_refusal_is_a_sentence_a_step_and_a_code(
    hub: Hub, status: int, code: str, exit_code: int, sentence: str, step: str
):
    body = b'{"error": "\x1b]52;c;UFdORUQ=\x07 secret words"}'
    headers: dict[str, str | None] = {"X-Error-Code": code or None, "Retry-After": "0"}
    hub.hub_faults += [Fault(status=status, headers=headers, body=body)] * 8
    done = run("pull", REF, env={"HF_TOKEN": TOKEN})
    assert done.returncode == exit_code, done.stderr
    assert sentence in done.stderr
    assert step in done.stderr
    assert done.stdout == ""
    for never in ("\x1b", "Traceback", TOKEN, "secret words"):
        assert never not in done.stderr


@pytest.mark.parametrize("where", ["environment", "login"])
def test_the_token_goes_to_the_hubs_origin_alone(hub: Hub, home: Path, tmp_path: Path, where: str):
    """Also where a 302 leads to the CDN, and a 307 within the hub to a new name."""
    hub.token = TOKEN
    hub.renamed["o/old"] = REPO
    env = {"HF_TOKEN": TOKEN} if where == "environment" else {"HF_HOME": str(home / "hfhome")}
    if where == "login":
        (home / "hfhome").mkdir()
        (home / "hfhome" / "token").write_text(f"{TOKEN}\n")
    hub.cdn_faults.append(Fault(status=302, headers={"Location": f"{hub.cdn}/{REPO}/{FILE}?again"}))
    done = run("pull", "o/old:Q4_0", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{REF}\n"
    sent = {(r.server, r.headers.get("authorization")) for r in hub.requests}
    assert sent == {("hub", f"Bearer {TOKEN}"), ("cdn", None)}
    for path in home.rglob("*"):
        if path.is_file() and path.name != "token":
            assert TOKEN.encode() not in path.read_bytes(), path
    assert run("pull", "o/other:Q8_0").returncode == 3, "without it, it is private"


def test_a_redirect_to_another_host_gets_no_token(hub: Hub):
    """A 307 from the hub's API to a second origin is refused: nobody else is asked."""
    hub.hub_faults.append(Fault(status=307, headers={"Location": f"{hub.cdn}/api/models/{REPO}"}))
    done = run("pull", REF, env={"HF_TOKEN": TOKEN})
    assert done.returncode == 5
    assert not any("authorization" in r.headers for r in hub.requests if r.server == "cdn")


# A hub that does not answer.


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield listener


@pytest.mark.tty
def test_ctrl_c_while_the_hub_is_asked(silent: socket.socket):
    with Terminal([LLMCHAT, "pull", REF]) as terminal:
        terminal.wait_for("Looking up")
        began = time.monotonic()
        terminal.press("ctrl+c")
        assert terminal.wait_exit(timeout=10) == 130
        assert time.monotonic() - began < 5, "the hub alone would take 15 s"
        assert "Stopped." in terminal.text


def test_int_in_a_pipe_while_the_hub_is_asked(silent: socket.socket):
    with subprocess.Popen(
        [LLMCHAT, "pull", REF], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as asking:
        connection, _ = silent.accept()
        with connection:
            asking.send_signal(signal.SIGINT)
            out, errors = asking.communicate(timeout=10)
    assert (asking.returncode, out) == (130, b"")
    assert b"Traceback" not in errors


# A cache that may only be read.


def test_a_cache_that_may_only_be_read(hub: Hub, tmp_path: Path):
    """Lists and resolves; a pull says in one sentence why it cannot be."""
    assert run("pull", REF).returncode == 0
    cache = tmp_path / "hf"
    environ = os.environ | {"HF_HUB_CACHE": str(tmp_path / "read-only")}
    read_only = tmp_path / "read-only"
    read_only.mkdir()
    script = (
        f"mount --bind {cache} {read_only} && mount -o remount,ro,bind {read_only} && "
        f"{LLMCHAT} list -q && {LLMCHAT} pull {REF} && {LLMCHAT} pull o/other:Q8_0"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        check=False,
        timeout=60,
        env=environ,
    )
    errors = done.stderr.decode()
    if "unshare" in errors or "mount:" in errors:
        pytest.skip(f"no mounts here: {errors.strip()}")
    assert done.stdout.decode() == f"{REF}\n{REF}\n", errors
    assert done.returncode == 5
    assert "cannot be written: Read-only file system" in errors
    assert "HF_HUB_CACHE" in errors
    assert "Traceback" not in errors


@pytest.mark.model
def test_a_pulled_model_runs(hub: Hub, starter: Path):
    """Whole way: from the hub into the cache, and through llama.cpp by its path there."""
    hub.put("o/starter-GGUF", {"starter-Q4_1.gguf": starter.read_bytes()})
    done = run("pull", "o/starter-GGUF")
    assert done.returncode == 0, done.stderr
    words = ["--max-tokens", "4", "--keep-alive", "0", "--no-save", "Hello"]
    # The bytes are the starter's: so is the name.
    assert done.stdout == "o/starter-GGUF:Q4_1\n"
    answered = run("run", "o/starter-GGUF:Q4_1", *words)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.strip()
