"""`llmchat run` through the real path over scripted workers: streams, exit codes, what is kept."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from llmchat.cli.main import main
from tests.cli.program import LLMCHAT, run
from tests.engine.conftest import workers_of

pytestmark = pytest.mark.usefixtures("script")


def chats() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("chats", "list", "--all", "--json").stdout)
    return found


def messages(chat: str) -> list[dict[str, Any]]:
    shown = json.loads(run("chats", "show", chat, "--json").stdout)
    found: list[dict[str, Any]] = shown["messages"]
    return found


def text_of(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["parts"] if part["kind"] == "text")


def test_stdout_is_the_answer_and_only_that(model: str, script):
    script("rate=0;say=Paris.;think=Let me see")
    done = run("run", model, "What", "is", "it?")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Paris.\n", "")


def test_the_question_and_the_answer_are_kept(model: str):
    run("run", model, "What is it?")
    (chat,) = chats()
    assert chat["source"] == "cli"
    assert chat["settings"]["model"] == model
    question, reply = messages(chat["id"])
    assert (text_of(question), text_of(reply)) == ("What is it?", "Paris.")
    assert json.loads(run("chats", "list", "--json").stdout) == []  # not in the sidebar


def test_nothing_is_kept_when_asked(model: str, home: Path):
    assert run("run", "--no-save", model, "secret words").stdout == "Paris.\n"
    assert chats() == []
    for path in home.rglob("*"):
        if path.is_file():
            assert b"secret words" not in path.read_bytes(), path


def test_piped_text_comes_first_and_the_words_below(model: str):
    run("run", model, "Sum it up.", given="line one\nline two\n")
    assert text_of(messages(chats()[0]["id"])[0]) == "line one\nline two\n\nSum it up."


def test_piped_text_alone_is_a_prompt(model: str):
    assert run("run", model, given="hello").stdout == "Paris.\n"


def test_bytes_that_are_no_text_are_no_accident(model: str):
    assert run("run", model, given=b"\xff\xfe\x00 what?").returncode == 0


def test_files_are_attached(model: str, tmp_path: Path):
    note = tmp_path / "note.txt"
    note.write_text("the code is 42")
    run("run", model, "-f", str(note), "What is the code?")
    file, words = messages(chats()[0]["id"])[0]["parts"]
    assert (file["kind"], file["text"], file["meta"]) == (
        "file",
        "the code is 42",
        {"name": "note.txt", "size": "14", "media": "text/plain"},
    )
    assert words["text"] == "What is the code?"


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [(None, 3, "There is no file"), (b"\0\1\2", 2, "is no text")],
)
def test_files_that_cannot_be_attached(model: str, tmp_path: Path, content, code: int, said: str):
    path = tmp_path / "thing"
    if content is not None:
        path.write_bytes(content)
    done = run("run", model, "-f", str(path), "Well?")
    assert done.returncode == code
    assert said in done.stderr


def test_going_on_with_the_last_conversation(model: str):
    run("run", model, "-s", "Be brief.", "one")
    run("run", "-c", "two")
    (chat,) = chats()
    assert [text_of(m) for m in messages(chat["id"])] == ["one", "Paris.", "two", "Paris."]
    assert chat["settings"]["system"] == "Be brief."
    run("run", "-r", chat["id"][-8:], "three")
    assert len(messages(chat["id"])) == 6


def test_going_on_needs_something_to_go_on_with():
    done = run("run", "-c", "two")
    assert done.returncode == 3
    assert "no conversation" in done.stderr


@pytest.mark.parametrize("words", [["-c", "8192", "m", "hi"], ["m", "-c", "8192"]])
def test_llama_cpps_c_is_explained(words: list[str]):
    done = run("run", *words)
    assert done.returncode == 2
    assert "did you mean --ctx-size 8192?" in done.stderr


def test_settings_reach_the_reply_with_their_source(model: str):
    run("run", model, "hi", "--temp", "0.5", "--seed", "7", "-n", "50", "-o", "top_k", "9",
        "--ctx-size", "512", "--stop", "END", "--think=high", "--ignore-eos")  # fmt: skip
    reply = messages(chats()[0]["id"])[1]
    found = {key: o["value"] for key, o in reply["generation"]["settings"].items()
             if o["source"] == "flag"}  # fmt: skip
    assert found == {
        "model": model,
        "sampling.temperature": 0.5,
        "sampling.seed": 7,
        "sampling.top_k": 9,
        "wants.n_ctx": 512,
        "max_tokens": 50,
        "stop": ["END"],
        "thinking": "high",
        "ignore_eos": True,
    }


@pytest.mark.parametrize(
    "flags",
    [
        ["--temp", "-1"],
        ["--temp", "nan"],
        ["--top-p", "1.5"],
        ["--seed", "x"],
        ["-n", "0"],
        ["-ngl", "some"],
        ["--ctx-size", "0"],
        ["--keepalive", "soon"],
        ["-o", "nonsense", "1"],
        ["-o", "top_k", "many"],
        ["-o", "temperature", "-3"],
        ["--think=maybe"],
        ["-s", "a", "--system-file", "b"],
    ],
    ids=" ".join,
)
def test_values_that_cannot_be_are_refused_before_anything_happens(
    model: str, flags: list[str], home: Path, capsys
):
    assert main(["run", model, "hi", *flags]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip()
    assert not (home / "data").exists()


def test_json_is_one_object(model: str, script):
    script("rate=0;say=Paris.;think=Let me see")
    answer = json.loads(run("run", "--json", model, "hi").stdout)
    assert (answer["text"], answer["thinking"], answer["finish"]) == (
        "Paris.",
        "Let me see",
        "stop",
    )
    assert answer["conversation"] == chats()[0]["id"]


def test_stats_are_for_people_on_stderr(model: str):
    done = run("run", "--stats", model, "hi")
    assert done.stdout == "Paris.\n"
    assert "tok/s" in done.stderr


HOSTILE = "a\x1b]52;c;aGk=\x07b\u202ec\x9bd\re"


def test_what_a_model_writes_is_cleaned_into_pipes_too(model: str, script, tmp_path: Path):
    told = tmp_path / "script.json"
    told.write_text(json.dumps({"rate": 0, "say": HOSTILE}))
    script(str(told))
    assert run("run", model, "hi").stdout == "a␛]52;c;aGk=␇b<U+202E>c<U+009B>d␍e\n"
    raw = subprocess.run([LLMCHAT, "run", "--raw", model, "hi"], capture_output=True, timeout=60)
    assert raw.stdout.decode() == HOSTILE
    shown = run("chats", "show", chats()[0]["id"]).stdout
    assert "\x1b" not in shown
    assert "␛]52" in shown


def test_a_reader_that_leaves_ends_it_quietly_and_keeps_what_was_written(model: str, script):
    script("rate=200;words=5000")
    done = subprocess.run(
        ["bash", "-c", f'{LLMCHAT} run "$0" hi | head -c 20; exit ${{PIPESTATUS[0]}}', model],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) == 20
    reply = messages(chats()[0]["id"])[1]
    assert reply["generation"]["finish"] == "cancelled"
    assert text_of(reply)


@pytest.mark.parametrize("flags", [[], ["--no-save"], ["--json"]], ids=["kept", "unsaved", "json"])
def test_stopped_while_the_model_loads_only_the_question_is_kept(
    model: str, script, home: Path, flags: list[str]
):
    script("load=300")
    command = [LLMCHAT, "run", *flags, model, "precious words"]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as asking:
        end = time.monotonic() + 60
        while not workers_of(home):
            assert time.monotonic() < end, "no worker was started"
            time.sleep(0.01)
        asking.send_signal(signal.SIGINT)
        said, told = asking.communicate(timeout=60)
    assert (asking.returncode, said) == (130, "")
    assert "before the first word" in told
    assert ("your question is kept" in told) == ("--no-save" not in flags)
    kept = [text_of(message) for chat in chats() for message in messages(chat["id"])]
    assert kept == ([] if "--no-save" in flags else ["precious words"])


def test_a_full_disk_behind_stdout(model: str):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [LLMCHAT, "run", model, "hi"], stdout=full, stderr=subprocess.PIPE, text=True,
            stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert text_of(messages(chats()[0]["id"])[1]) == "Paris."


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_dead_engine_is_a_sentence_and_code_4(model: str, script, how: str):
    script(f"rate=0;words=50;die={how};at=reply")
    done = run("run", model, "hi")
    assert done.returncode == 4
    assert how in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_cannot_be_loaded(model: str, script):
    script("load_fail=true;message=Too big for this machine.")
    done = run("run", model, "hi")
    assert done.returncode == 1
    assert "Too big for this machine." in done.stderr
    assert done.stdout == ""


def test_an_unknown_model_in_a_pipe_names_the_next_step():
    done = run("run", "nonsense", "hi")
    assert done.returncode == 3
    assert "llmchat pull nonsense" in done.stderr


def test_no_model_at_all():
    done = run("run", given="hi")
    assert done.returncode == 3
    assert "llmchat pull smollm2:135m" in done.stderr


@pytest.mark.parametrize("stdin", ["</dev/null", "<&-"])
def test_no_prompt_and_no_terminal(model: str, stdin: str):
    done = subprocess.run(
        ["bash", "-c", f'{LLMCHAT} run "$0" {stdin}', model],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "There is no prompt" in done.stderr


def test_prose_as_the_first_word_goes_to_the_default_model(model: str):
    run("config", "set", "chat.model", model)
    assert run("run", "What is the capital of France?").stdout == "Paris.\n"
    assert text_of(messages(chats()[0]["id"])[0]) == "What is the capital of France?"


@pytest.mark.parametrize("locale", ["C", "tr_TR.UTF-8", "ja_JP.eucJP"])
def test_any_locale_and_any_bytes(model: str, script, locale: str, tmp_path: Path):
    told = tmp_path / "script.json"
    told.write_text(json.dumps({"rate": 0, "say": "Zoë 日本 🙂"}))
    script(str(told))
    done = subprocess.run(
        [LLMCHAT.encode(), b"run", model.encode(), b"hi \xff"], capture_output=True,
        env={**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0"},
        stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"Zo")
