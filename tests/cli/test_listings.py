"""Listings and what changes things: tables for people, JSON for programs, one contract for all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmchat.cli.main import main
from tests.cli.program import LLMCHAT, run

pytestmark = pytest.mark.usefixtures("script")


@pytest.fixture
def in_cache(tmp_path: Path) -> str:
    """A model in the shared Hugging Face cache, and its name."""
    folder = tmp_path / "hf" / "models--owner--thing-GGUF" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (folder / "thing.Q4_K_M.gguf").write_bytes(b"GGUF" + bytes(1_499_996))
    return "owner/thing-GGUF:Q4_K_M"


LISTINGS = [
    ["list", "--json"],
    ["ps", "--json"],
    ["chats", "list", "--json"],
    ["chats", "search", "nothing", "--json"],
    ["config", "list", "--json"],
    ["doctor", "--json"],
]


@pytest.mark.parametrize("words", LISTINGS, ids=" ".join)
def test_every_listing_is_json_on_an_empty_home(words: list[str]):
    done = run(*words)
    assert isinstance(json.loads(done.stdout), list)
    assert done.stderr == ""


@pytest.mark.parametrize("words", LISTINGS, ids=" ".join)
def test_every_listing_has_a_table_too(words: list[str]):
    done = run(*words[:-1])
    assert "Traceback" not in done.stderr
    assert "{" not in done.stdout.split("\n")[0]


@pytest.mark.parametrize("words", [["list"], ["ps"], ["chats", "list"], ["config", "list"]])
def test_a_listing_into_a_closed_pipe_is_quiet(words: list[str], in_cache: str):
    done = subprocess.run(
        ["bash", "-c", f"{LLMCHAT} {' '.join(words)} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_model_in_the_list(in_cache: str):
    heading, row = run("list").stdout.splitlines()
    assert heading.split() == ["NAME", "ID", "SIZE", "MODIFIED", "SOURCE"]
    assert row.startswith(in_cache)
    assert "1.5 MB" in row
    assert run("list", "-q").stdout == f"{in_cache}\n"
    (model,) = json.loads(run("ls", "--json").stdout)
    assert (model["name"], model["size"]) == (in_cache, 1_500_000)


def test_list_imports_neither_an_event_loop_nor_a_database(in_cache: str):
    code = (
        "import sys; from llmchat.cli.main import main; main(['list'])\n"
        "print(*sorted({'asyncio', 'apsw', 'textual', 'rich', 'huggingface_hub', 'numpy',"
        " 'llama_cpp', 'jinja2', 'tomlkit', 'http.client', 'subprocess'} & set(sys.modules)),"
        " file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.split() == []


def test_deleting_asks_first_and_says_what_it_frees(in_cache: str, tmp_path: Path):
    refused = run("rm", in_cache)
    assert refused.returncode == 2
    assert "frees 1.5 MB" in refused.stderr
    assert run("rm", "--dry-run", in_cache).returncode == 0
    assert run("rm", "-y", in_cache, "nonsense").returncode == 3  # all or nothing
    assert json.loads(run("list", "--json").stdout)
    assert run("rm", "-y", in_cache).returncode == 0
    assert json.loads(run("list", "--json").stdout) == []
    assert list((tmp_path / "hf").rglob("*.gguf")) == []


def test_another_programs_model_is_not_deleted(model: str):
    done = run("rm", "-y", model)
    assert done.returncode != 0
    assert Path(model).exists()


def test_load_ps_and_stop(model: str, script, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LLMCHAT_CHAT_KEEP_ALIVE")
    loaded = run("load", model, "--keepalive", "5m", "--ctx-size", "512")
    assert loaded.returncode == 0
    assert "context 512" in loaded.stderr
    assert "5 minutes" in loaded.stderr
    heading, row = run("ps").stdout.splitlines()
    columns = ["NAME", "SIZE", "PROCESSOR", "CONTEXT", "SEQUENCES", "KV", "CLIENTS", "UNTIL"]
    assert heading.split() == columns
    assert row.startswith(model)
    assert "4 minutes from now" in row
    stopped = run("stop", model)
    assert stopped.returncode == 0
    assert run("ps", "--json").stdout == "[]\n"
    assert run("stop", model).returncode == 3
    assert run("stop", "--all").returncode == 0


@pytest.mark.parametrize("words", [["stop"], ["stop", "--all", "name"]])
def test_stop_must_be_told_what(words: list[str]):
    assert run(*words).returncode == 2


def test_a_busy_model_is_not_stopped_in_a_pipe_without_force(model: str, script):
    script("rate=50;words=100000")
    with subprocess.Popen(
        [LLMCHAT, "run", model, "hi"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as asking:
        assert asking.stdout is not None
        asking.stdout.read(20)
        refused = run("stop", "--all")
        assert refused.returncode == 1
        assert "--force" in refused.stderr
        assert asking.poll() is None
        assert run("stop", "--all", "--force").returncode == 0
        assert asking.wait(timeout=30) in (1, 4)  # ended in order, or killed
        asking.stdout.read()


def test_conversations_can_be_found_shown_exported_and_deleted(model: str, tmp_path: Path):
    run("run", model, "Where do dragons sleep?")
    (chat,) = json.loads(run("chats", "list", "-a", "--json").stdout)
    found = run("chats", "search", "dragons")
    assert found.returncode == 0
    assert chat["id"] in found.stdout
    assert "\x01" not in found.stdout
    assert run("logs", "search", "unicorns").returncode == 3
    shown = run("chats", "show", chat["id"])
    assert "## user\n\nWhere do dragons sleep?" in shown.stdout
    assert "Paris." in shown.stdout
    file = tmp_path / "chat.md"
    assert run("chats", "export", chat["id"], "-o", str(file)).returncode == 0
    assert file.read_text() == shown.stdout
    again = run("chats", "export", chat["id"], "-o", str(file))
    assert again.returncode == 2
    assert "is there already" in again.stderr
    exported = json.loads(run("chats", "export", chat["id"], "--format", "json").stdout)
    assert [each["id"] for each in exported["conversations"]] == [chat["id"]]
    assert run("chats", "rm", chat["id"]).returncode == 2
    assert run("chats", "rm", "-y", "--purge", chat["id"]).returncode == 0
    assert run("chats", "export", chat["id"]).returncode == 3
    assert json.loads(run("chats", "list", "-a", "--json").stdout) == []
    assert run("chats", "show", "nonsense").returncode == 3


def test_settings_are_written_read_and_removed(capsys, home: Path):
    assert main(["config", "set", "sampling.temperature", "0.3"]) == 0
    assert main(["config", "get", "sampling.temperature"]) == 0
    assert capsys.readouterr().out == "0.3\n"
    assert main(["config", "path"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert "temperature = 0.3" in path.read_text()
    assert main(["config", "set", "sampling.temperature", "--unset"]) == 0
    assert main(["config", "get", "sampling.temperature"]) == 0
    assert capsys.readouterr().out == "\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["set", "sampling.temperature", "hot"], 1),
        (["set", "sampling.temperatur", "1"], 3),
        (["set", "sampling.temperature"], 2),
        (["set", "sampling.temperature", "1", "--unset"], 2),
        (["get", "nonsense"], 3),
    ],
)
def test_settings_that_cannot_be(words: list[str], code: int, capsys):
    assert main(["config", *words]) == code
    said = capsys.readouterr().err
    assert said.strip()
    assert "Traceback" not in said


def test_a_broken_configuration_is_a_sentence_and_defaults_hold(home: Path, model: str):
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text("[sampling\ntemperature = 1")
    done = run("config", "list")
    assert done.returncode == 0
    assert "config.toml" in done.stderr
    assert run("run", model, "hi").stdout == "Paris.\n"
    assert run("doctor").returncode == 1


def test_completion_of_commands_models_and_chats(model: str, in_cache: str):
    def complete(line: str) -> list[str]:
        words = line.split(" ")
        env = {
            "_LLMCHAT_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        done = run(env=env)
        assert done.stderr == ""
        return [row.partition(",")[2] for row in done.stdout.splitlines()]

    assert complete("llmchat l") == ["list", "load", "ls", "logs"]
    assert complete("llmchat run own") == [in_cache]
    assert complete("llmchat rm ") == [in_cache]
    assert complete("llmchat config ge") == ["get"]
    assert complete("llmchat config get sampling.temp") == ["sampling.temperature"]
    assert "--temp" in complete("llmchat run --te")
    run("run", model, "hi")
    (chat,) = json.loads(run("chats", "list", "-a", "--json").stdout)
    assert complete("llmchat chats show ") == [chat["id"]]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str):
    done = run("completion", shell)
    assert done.returncode == 0
    assert "_LLMCHAT_COMPLETE" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True, timeout=20)


def test_the_doctor_finds_what_is_wrong(home: Path, tmp_path: Path):
    blobs = tmp_path / "hf" / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / ("0" * 64 + ".llmchat-part")).write_bytes(bytes(1000))
    (home / "run").mkdir(mode=0o755)
    (home / "logs").write_text("in the way")
    done = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 1
    assert checks["partial download"]["state"] == "warn"
    assert checks["folder logs"]["state"] == "bad"
    assert checks["llama-cpp-python"]["state"] == "ok"
    assert checks["gpu"]["state"] in ("ok", "warn")


@pytest.mark.parametrize("words", [["list"], ["chats"], ["config"], ["ps"], ["doctor"]])
def test_a_home_that_cannot_be_written(words: list[str], home: Path, tmp_path: Path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, no folder")
    done = run(*words, env={"LLMCHAT_HOME": str(blocked / "home")})
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    assert "went wrong inside" not in done.stderr


@pytest.mark.model
def test_what_a_model_is(starter: Path):
    facts = run("show", str(starter)).stdout
    assert "134.5M" in facts
    assert "Q4_1" in facts
    assert "8192" in facts
    assert "<|im_start|>" in run("show", "--template", str(starter)).stdout
    assert "llama.context_length" in run("info", "--metadata", str(starter)).stdout
    tensors = json.loads(run("show", "--tensors", "--json", str(starter)).stdout)
    assert sum(tensor["name"] == "token_embd.weight" for tensor in tensors) == 1
    described = json.loads(run("show", "--json", str(starter)).stdout)
    assert described["about"]["n_layers"] == 30


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no model at all" * 100, b"GGUF" + bytes(60)])
@pytest.mark.parametrize("view", [[], ["--tensors"], ["--json"]])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes, view: list[str], capsys):
    path = tmp_path / "thing.gguf"
    path.write_bytes(content)
    assert main(["show", str(path), *view]) == 1
    said = capsys.readouterr().err
    assert "thing.gguf" in said
    assert "Traceback" not in said
