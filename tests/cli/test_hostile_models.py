"""Model files that nobody should trust, through the program (security plan C1, C5, C6)."""

import io
import json
import os
import struct
import time
from pathlib import Path

import pytest

from llmchat.cli.main import main
from llmchat.text.cleaning import clean
from tests.cli.program import run
from tests.hub.conftest import tell
from tests.unit.gguf.crafted import gguf, tensor
from tests.unit.gguf.test_reader import CRAFTED

EVIL = "\x1b]0;title\x07\x1b]52;c;UFdORUQ=\x07\u202egnp.exe\u200b\x9b31m\U000e0041"
HOSTILE = {
    "general.name": EVIL,
    "general.license": EVIL,
    "general.basename": EVIL * 20_000,
    f"general.{EVIL}": EVIL,
    "tokenizer.chat_template": "{% for i in range(99999) %}" + EVIL + "{% endfor %}",
    "tokenizer.ggml.tokens": [f"{EVIL}{n}" for n in range(300)],
}
VIEWS = [[], ["--json"], ["--template"], ["--metadata"], ["--tensors"], ["--tensors", "--json"]]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A loadable header whose every text is an attack on the terminal."""
    path = tmp_path / "innocent-Q4_0.gguf"
    path.write_bytes(gguf(HOSTILE, tensors=[tensor(EVIL[:20], (32,), 0, 0)]))
    return path


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_hostile_metadata_is_shown_inert(hostile: Path, view: list[str], capsys):
    """C5: names, licence, keys, template and tensors reach the terminal cleaned, and soon."""
    began = time.thread_time()
    assert main(["show", str(hostile), *view]) == 0
    spent = time.thread_time() - began
    shown = capsys.readouterr()
    assert clean(shown.out) == shown.out
    assert clean(shown.err) == shown.err
    assert spent < 2
    if "--json" in view:
        json.loads(shown.out)


def test_hostile_names_in_the_list(hostile: Path, capsys, monkeypatch, tmp_path: Path):
    """C5: a file's own name is as hostile as what is in it."""
    folder = tmp_path / "models"
    folder.mkdir()
    # A slash ends a name; the rest may be anything.
    (folder / f"{EVIL}-Q4_0.gguf").write_bytes(hostile.read_bytes())
    monkeypatch.setenv("LLMCHAT_LIBRARY_FOLDERS", str(folder))
    for words in (["list"], ["list", "-q"], ["list", "--json"]):
        assert main(words) == 0
        shown = capsys.readouterr()
        assert "Q4_0" in shown.out
        assert clean(shown.out) == shown.out


@pytest.mark.model
@pytest.mark.parametrize(
    "names",
    [
        ["100,000 layers", "a token twice of few", "a tensor beyond the end"],
        pytest.param(list(CRAFTED), marks=[pytest.mark.torture, pytest.mark.timeout(900)]),
    ],
    ids=["three", "all"],
)
def test_crafted_headers_through_the_program(tmp_path: Path, names: list[str]):
    """C1: one sentence that names the file and the reason; no worker dies of it."""
    longest = 0.0
    for number, name in enumerate(names):
        path = tmp_path / f"crafted-{number}.gguf"
        path.write_bytes(CRAFTED[name][0])
        began = time.monotonic()
        done = run("run", str(path), "hi")
        longest = max(longest, time.monotonic() - began)
        assert done.returncode in (1, 2, 3), (name, done.stderr)
        assert path.name in done.stderr, (name, done.stderr)
        assert "Traceback" not in done.stderr, name
        assert "died" not in done.stderr, (name, done.stderr)
        assert done.stdout == ""
    tell(f"C1: {len(names)} of {len(names)} refused in a sentence, at most {longest:.1f} s each")


NOT_GGUF = {
    "page.gguf": b"<!DOCTYPE html><html><title>404</title></html>",
    "archive.gguf": b"PK\x03\x04" + bytes(100),
    "pytorch_model.bin": b"\x80\x02}q\x00." + bytes(100),
    "model.safetensors": struct.pack("<Q", 40) + b'{"__metadata__":{}}' + bytes(60),
    "empty.gguf": b"",
}


@pytest.mark.parametrize("word", ["run", "show", "import"])
def test_what_is_no_gguf_is_a_clear_error(tmp_path: Path, word: str, capsys, monkeypatch):
    """C6: pages, archives, pickles, pipes, devices, folders and links in a circle."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))  # nothing is piped in
    for name, content in NOT_GGUF.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "fifo.gguf")
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "loop.gguf").symlink_to(tmp_path / "loop.gguf")
    paths = [tmp_path / name for name in [*NOT_GGUF, "fifo.gguf", "folder.gguf", "loop.gguf"]]
    for path in [*paths, Path("/dev/zero"), Path("/dev/null")]:
        words = [word, str(path), "hi"] if word == "run" else [word, str(path)]
        assert main(words) in (1, 2, 3), path
        said = capsys.readouterr()
        assert path.name in said.err
        assert "Traceback" not in said.err
        assert "went wrong inside" not in said.err, said.err
    tell(f"C6: {len(paths) + 2} of {len(paths) + 2} files that are no GGUF: `{word}` says so")
