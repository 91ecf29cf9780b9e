"""The entry: the version, help, mistakes, closed pipes, and no terminal."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from llmchat import __version__
from llmchat.cli import failures
from llmchat.cli.program import ALIASES, COMMANDS
from llmchat.errors import Interrupted, NotFound, WorkerDied
from tests.cli.program import LLMCHAT, run


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version(flag: str):
    done = run(flag)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"llmchat {__version__}\n", "")


def test_the_version_imports_nothing_but_llmchat():
    code = (
        "import sys; from llmchat.cli.main import main; main(['--version'])\n"
        "print(*[m for m in sys.modules if m.startswith('llmchat') or m in"
        " ('click', 'msgspec', 'tomllib', 'asyncio', 're')], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=60,
    )
    assert done.stderr.split() == ["llmchat", "llmchat.cli", "llmchat.cli.main"]


def test_help_lists_every_command_without_importing_them():
    code = (
        "import sys; from llmchat.cli.main import main; code = main(['--help'])\n"
        "assert not [m for m in sys.modules if m.startswith('llmchat.cli.commands.')]\n"
        "assert not {'msgspec', 'asyncio', 'apsw'} & set(sys.modules)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    listed = done.stdout.split("Commands:")[1]
    assert [name for name in [*COMMANDS, *ALIASES] if name not in listed] == []


def test_an_unknown_command_is_a_sentence_with_the_near_ones():
    done = run("lst")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "There is no command 'lst'. Did you mean list" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["--nonsense"], ["completion"], ["completion", "csh"]])
def test_wrong_words_are_usage_errors(words: list[str]):
    done = run(*words)
    assert done.returncode == 2
    assert "--help` lists what it takes" in done.stderr


@pytest.mark.parametrize("env", [{}, {"TERM": "dumb"}, {"TERM": ""}, {"NO_COLOR": "1"}])
def test_without_a_terminal_the_chat_says_so_and_draws_nothing(env: dict[str, str]):
    done = run(env=env)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "needs a terminal" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["", "--version", "--help"])
def test_closed_streams_are_no_accident(closed: str, words: str):
    done = subprocess.run(
        ["bash", "-c", f"{LLMCHAT} {words} {closed}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == (0 if words else 2)
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("words", ["--version", "--help"])
def test_a_closed_pipe_is_quiet(words: str):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [LLMCHAT, words], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_behind_stdout_is_a_sentence():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [LLMCHAT, "completion", "bash"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.startswith("The output cannot be written: ")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Interrupted(), 130, "Stopped."),
        (KeyboardInterrupt(), 130, "Stopped."),
        (click.Abort(), 130, "Stopped."),
        (click.UsageError("Off."), 2, "Off."),
        (NotFound("paths.not_ours", path="/x\x1b]0;evil\x07"), 3, "/x␛]0;evil␇ belongs"),
        (BrokenPipeError(), 0, ""),
        (WorkerDied(signal="SIGSEGV", last_lines=("one\x1b[31m", "two")), 4, "  one␛[31m\n  two"),
    ],
)
def test_every_error_is_a_sentence_and_a_code(
    error: BaseException, code: int, said: str, capsys, monkeypatch
):
    monkeypatch.setattr(failures, "drop_streams", lambda: None)
    assert failures.explain(error) == code
    written = capsys.readouterr().err
    assert said in written
    assert "Traceback" not in written


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_mistake_of_ours_leaves_a_report_and_no_traceback(home: Path, capsys):
    assert failures.explain(raised(ZeroDivisionError("by \x1b nothing"))) == 1
    said = capsys.readouterr().err
    (report,) = (home / "logs").iterdir()
    assert str(report) in said
    assert "by ␛ nothing" in said
    assert "Traceback" not in said
    assert "ZeroDivisionError" in report.read_text()
    assert report.stat().st_mode & 0o777 == 0o600


def test_the_traceback_is_for_those_who_ask(home: Path, capsys, monkeypatch):
    monkeypatch.setenv("LLMCHAT_DEBUG", "1")
    assert failures.explain(raised(ZeroDivisionError())) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_no_second_accident(home: Path, capsys, monkeypatch):
    (home / "logs").write_text("in the way")
    assert failures.explain(raised(ZeroDivisionError())) == 1
    assert "LLMCHAT_DEBUG=1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "MODEL", "\udcff"],
        ["run", "MODEL", "hi", "--stop", "\udcff"],
        ["run", "MODEL", "hi", "--lora", "\udcff"],
        ["run", "MODEL", "hi", "-o", "top_k", "\udcff"],
        ["chats", "show", "\udcff"],
        ["chats", "search", "\udcff"],
        ["search", "\udcff"],
    ],
)
def test_bytes_that_are_no_text_are_no_error_of_ours(model: str, script, words):
    script("rate=0;say=Paris.")
    done = run(*(model if word == "MODEL" else word for word in words))
    assert done.returncode in (0, 2, 3, 5), done.stderr
    assert "went wrong" not in done.stderr


def test_a_file_with_such_a_name_is_still_that_file(model: str, tmp_path: Path, script):
    script("rate=0;say=Paris.")
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")
    Path(path).write_text("milk")
    done = run("run", model, "what?", "-f", path)
    assert (done.returncode, done.stdout) == (0, "Paris.\n"), done.stderr
