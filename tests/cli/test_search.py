"""`llmchat search` and `llmchat fit`: what people see, what programs get, and the exit codes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmchat.cli.main import main
from llmchat.cli.measured import speeds
from tests.cli import program
from tests.cli.program import LLMCHAT
from tests.hub.conftest import gguf_bytes
from tests.hub.server import Hub
from tests.tty.terminal import Terminal
from tests.written import Written, write

SMALL = Written("llama", 4, 512, 1024, 8, 2, 64, vocab=2000)
CARD = b"---\nlicense: mit\n---\n# A model\n\n\x1b[31mred <b>bold</b>\n"


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command line in this process: many of them make a test, and each starts at once."""

    def command(*words: str) -> Done:
        code = main(list(words))
        said = capsys.readouterr()
        return Done(int(code), said.out, said.err)

    return command


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    content = write(tmp_path, "small", SMALL).read_bytes()
    with Hub() as hub:
        hub.put(
            "o/small-GGUF",
            {"m-Q4_K_M.gguf": content, "m-Q8_0.gguf": content + bytes(100), "README.md": CARD},
        )
        hub.facts["o/small-GGUF"] = {
            "downloads": 12_345,
            "gated": "auto",
            "tags": ["gguf", "license:mit", "conversational"],
            "gguf": {"total": 20_000_000, "chat_template": "\x1b[31m"},
        }
        for number in range(5):
            hub.put(f"o/other-{number}-GGUF", {"m-Q4_0.gguf": gguf_bytes(100, number)})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def test_a_table_a_page(run: Run, hub: Hub):
    done = run("search", "small")
    heading, row = done.stdout.splitlines()
    assert heading.split()[:3] == ["NAME", "PARAMS", "DOWNLOADS"]
    assert row.split()[:3] == ["o/small-GGUF", "20.0M", "12.3K"]
    assert "mit" in row
    assert "gated" in row
    assert done.stderr == ""
    assert done.returncode == 0


def test_pages_and_names(run: Run, hub: Hub):
    first = run("search", "other", "--limit", "3", "-q")
    assert first.stdout.split() == [f"o/other-{number}-GGUF" for number in range(3)]
    shown = run("search", "other", "--limit", "3")
    assert "--page 2" in shown.stderr
    second = json.loads(run("find", "other", "--limit", "3", "--page", "2", "--json").stdout)
    assert [model["repo"] for model in second["models"]] == ["o/other-3-GGUF", "o/other-4-GGUF"]
    assert second["more"] is False
    assert run("search", "other", "--page", "9").returncode == 3


def test_without_words_the_short_names_and_no_hub(run: Run):
    done = run("search")  # HF_ENDPOINT points at a closed port
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[0] == "smollm2:135m"
    assert "pull NAME" in done.stderr
    rows = json.loads(run("search", "--json").stdout)
    assert {"name": "qwen3:8b", "repo": "Qwen/Qwen3-8B-GGUF", "variant": "Q4_K_M",
            "here": False} in rows  # fmt: skip
    assert run("search", "-q").stdout.split() == [row["name"] for row in rows]
    assert run("search", "--card").returncode == 2


def test_nothing_found_is_code_3(run: Run, hub: Hub):
    done = run("search", "zzz", "zzz")
    assert (done.returncode, done.stdout) == (3, "")
    assert "zzz zzz" in done.stderr


def test_variants_with_sizes_fit_and_a_star(run: Run, hub: Hub):
    done = run("search", "o/small-GGUF", "--variants")
    heading, small, large = done.stdout.splitlines()
    assert heading.split() == ["NAME", "SIZE", "FIT", "HERE"]
    assert small.split()[0] == "o/small-GGUF:Q4_K_M"
    assert "RAM" in small or "GPU" in small
    assert "★" in large
    assert "4 to 8 bits" in done.stderr
    rows = json.loads(run("search", "o/small-GGUF", "--variants", "--json").stdout)
    assert [row["best"] for row in rows] == [False, True]
    assert rows[0]["fit"]["total"] > rows[0]["offer"]["size"]


def test_the_card_is_plain_text(run: Run, hub: Hub):
    done = run("search", "o/small-GGUF", "--card")
    assert done.stdout == "# A model\n\n\N{SYMBOL FOR ESCAPE}[31mred bold\n"
    assert run("search", "o/other-1-GGUF", "--card").returncode == 3
    assert run("search", "two words", "--card").returncode == 2


@pytest.mark.parametrize(
    "words", [["search", "x"], ["fit", "o/m:Q4_0"], ["search", "o/m", "--card"]]
)
def test_no_network_is_one_sentence_and_code_5(run: Run, words: list[str], monkeypatch):
    done = run(*words)  # HF_ENDPOINT points at a closed port
    assert (done.returncode, done.stdout) == (5, "")
    assert "does not answer" in done.stderr
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in run(*words).stderr


def test_fit_before_and_after(run: Run, hub: Hub):
    before = run("fit", "o/small-GGUF:q4_k_m", "--ctx-size", "4096", "--json")
    assert before.returncode == 0
    found = json.loads(before.stdout)
    assert found["speed"] is None
    assert (found["fit"]["n_ctx"], found["fit"]["verdict"] in ("ram", "gpu")) == (4096, True)
    assert run("pull", "o/small-GGUF:Q4_K_M").returncode == 0
    hub.requests.clear()
    after = json.loads(run("fit", "o/small-GGUF:Q4_K_M", "--ctx-size", "4096", "--json").stdout)
    assert hub.requests == []
    for field in ("weights", "kv", "compute", "total", "largest_ctx"):
        assert after["fit"][field] == found["fit"][field]


def test_fit_in_words_and_smaller_caches(run: Run, tmp_path: Path):
    path = str(write(tmp_path, "small", SMALL))
    plain = run("fit", path)
    labels = [line.split("  ")[0] for line in plain.stdout.splitlines()]
    assert labels[:7] == ["name", "fits", "context", "weights", "KV cache", "buffers", "total"]
    small = json.loads(run("fit", path, "-ctk", "q8_0", "-ctv", "q8_0", "--json").stdout)
    assert small["fit"]["cache_type_k"] == "q8_0"
    assert small["fit"]["kv"] == 8192 * 4 * 2 * 2 * 68


def test_what_cannot_fit_is_code_1(run: Run, tmp_path: Path):
    huge = Written("llama", 200, 16_384, 65_536, 128, 8, 128, vocab=2000)
    done = run("fit", str(write(tmp_path, "huge", huge)))
    assert done.returncode == 1
    assert "does not fit" in done.stdout


@pytest.mark.parametrize(
    ("ref", "code"), [("nonsense", 3), ("./nothing.gguf", 3), ("a@b@c", 2), ("o/absent", 3)]
)
def test_what_is_no_model_has_no_fit(run: Run, hub: Hub, ref: str, code: int):
    done = run("fit", ref)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr


def test_a_pipe_takes_the_fixed_variant_and_says_why(run: Run, hub: Hub):
    done = run("pull", "o/small-GGUF", "--dry-run")
    assert "m-Q4_K_M.gguf" in done.stdout
    assert "o/small-GGUF:Q4_K_M is what a pipe takes" in done.stderr
    named = run("pull", "o/small-GGUF:q8_0", "--dry-run")
    assert "pipe" not in named.stderr


@pytest.mark.tty
def test_a_terminal_takes_what_fits_and_says_why(run: Run, hub: Hub):
    with Terminal([LLMCHAT, "pull", "o/small-GGUF", "--dry-run"]) as terminal:
        assert terminal.wait_exit(timeout=60) == 0
        assert "the largest of its 2 variants that fits here" in terminal.text.replace("\n", "")
        assert "m-Q8_0.gguf" in terminal.text
    assert run("pull", "o/small-GGUF:Q4_K_M").returncode == 0
    with Terminal([LLMCHAT, "pull", "o/small-GGUF"]) as terminal:
        assert terminal.wait_exit(timeout=60) == 0
        assert "already here" in terminal.text


@pytest.mark.usefixtures("script")
def test_measured_speed_is_shown_once_known(model: str, script):
    script("rate=200;words=40")
    assert program.run("run", model, "hi").returncode == 0
    [speed] = speeds().values()
    assert 20 < speed.tokens_per_second < 400
    assert speed.replies == 1


def test_show_says_what_fits_and_shows_a_remote_repository(run: Run, hub: Hub, tmp_path: Path):
    path = str(write(tmp_path, "small", SMALL))
    [fits] = [line for line in run("show", path).stdout.splitlines() if line.startswith("fits")]
    assert "8192 tokens" in fits
    shown = json.loads(run("show", path, "--json").stdout)
    assert shown["fit"]["total"] > 0
    assert shown["speed"] is None
    assert "o/small-GGUF:Q8_0" in run("show", "o/small-GGUF").stdout
    assert run("show", "o/small-GGUF", "--card").stdout.startswith("# A model")
    assert run("show", "o/small-GGUF", "--tensors").returncode == 3
    assert run("show", "nonsense").returncode == 3
