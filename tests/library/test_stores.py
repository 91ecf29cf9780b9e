"""Other programs' models and the user's folders, read in place; a long list opens no file twice."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmchat.core.models import Models
from llmchat.errors import ModelFileError
from tests.core.test_models import put


def gguf(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF" + (content or path.name.encode()))
    return path


def service(places, **more) -> Models:
    return Models(places=places, environ=dict(os.environ), **more)


def ollama_model(home: Path, name: str, layers: dict[str, bytes]) -> None:
    """A model as Ollama stores it: a manifest that names blobs by sha256."""
    root = home / ".ollama" / "models"
    entries = []
    for kind, content in layers.items():
        digest = hashlib.sha256(content).hexdigest()
        (root / "blobs").mkdir(parents=True, exist_ok=True)
        (root / "blobs" / f"sha256-{digest}").write_bytes(content)
        entries.append(
            {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}"}
        )
    manifest = root / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": entries}))


def test_ollamas_models_by_their_names(places, home):
    ollama_model(home, "registry.ollama.ai/library/qwen3/8b", {"model": b"GGUF q", "params": b"{}"})
    ollama_model(home, "registry.ollama.ai/someone/tiny/latest", {"model": b"GGUF t"})
    ollama_model(
        home,
        "hf.co/o/r-GGUF/Q4_K_M",
        {"model": b"GGUF h", "projector": b"GGUF eye", "system": b"s"},
    )
    ollama_model(home, "registry.ollama.ai/library/other/1b", {"model": b"not one"})
    ollama_model(home, "registry.ollama.ai/library/cloud/1b", {"params": b"{}"})
    models = service(places)
    found = {model.name: model for model in models.list()}
    assert set(found) == {"qwen3:8b", "someone/tiny:latest", "hf.co/o/r-GGUF:Q4_K_M"}
    assert found["qwen3:8b"].identity == hashlib.sha256(b"GGUF q").hexdigest()
    assert found["hf.co/o/r-GGUF:Q4_K_M"].size == len(b"GGUF hGGUF eye")
    for name, model in found.items():
        assert models.resolve(name) == model
    with pytest.raises(ModelFileError):
        models.remove("qwen3:8b")


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[" * 100_000,
        b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "../x"}]}',
        b'{"layers": 5}',
    ],
)
def test_a_hostile_manifest_is_no_model(places, home, manifest):
    path = home / ".ollama/models/manifests/registry.ollama.ai/library/x/y"
    path.parent.mkdir(parents=True)
    path.write_bytes(manifest)
    assert service(places).list() == []


def test_lmstudios_models_keep_their_hub_names(places, home, tmp_path):
    usual = gguf(home / ".lmstudio/models/o/r-GGUF/r-Q8_0.gguf")
    gguf(home / ".lmstudio/models/o/r-GGUF/mmproj-r-F16.gguf")
    moved = gguf(tmp_path / "elsewhere/p/s-GGUF/s-Q4_K_M.gguf")
    settings = home / ".lmstudio/settings.json"
    settings.write_text(json.dumps({"downloadsFolder": str(tmp_path / "elsewhere")}))
    found = {model.name: model for model in service(places).list()}
    assert {name: model.path for name, model in found.items()} == {
        "o/r-GGUF:Q8_0": str(usual),
        "p/s-GGUF:Q4_K_M": str(moved),
    }
    assert found["o/r-GGUF:Q8_0"].projector is not None
    settings.write_text("not json")
    assert len(service(places).list()) == 1


def test_folders_at_any_depth(places, tmp_path, home):
    root = tmp_path / "models"
    deep = gguf(root / "a/b/c/deep.gguf")
    gguf(root / "split/m-00001-of-00002.gguf")
    (root / "loop").symlink_to(root)
    (root / "page.gguf").write_text("<html>")
    os.mkfifo(root / "pipe.gguf")
    gguf(home / ".cache/llama.cpp/o_r-GGUF_r-Q4_0.gguf")
    models = service(places, folders=[root, tmp_path / "absent"])
    assert {(m.source, Path(m.path).name) for m in models.list()} == {
        ("folder", "deep.gguf"),
        ("llama.cpp", "o_r-GGUF_r-Q4_0.gguf"),
    }
    assert models.resolve("deep").path == str(deep)
    assert models.resolve(str(deep)).source == "folder"


def test_one_file_is_listed_once_and_a_name_means_one(places, home, tmp_path):
    link = put(tmp_path / "hf", "o/r-GGUF", "r-Q8_0.gguf", b"GGUF same")
    ollama_model(home, "registry.ollama.ai/library/same/1b", {"model": b"GGUF same"})
    other = gguf(home / ".lmstudio/models/o/r-GGUF/r-Q8_0.gguf", b"another")
    names = {model.name: model.path for model in service(places).list()}
    assert names == {"o/r-GGUF:Q8_0": str(link), str(other): str(other)}


_LIST = """
import os, sys
from llmchat.core.models import Models
from llmchat.paths import find_places
opened = []
def watch(event, args):
    if event == "open" and str(args[0]).endswith(".gguf"):
        opened.append(args[0])
sys.addaudithook(watch)
models = Models(places=find_places(), environ=os.environ, folders=[sys.argv[1]])
print(len(models.list()), len(set(opened)))
"""


def test_a_second_listing_opens_no_model(places, tmp_path):
    for number in range(5):
        put(tmp_path / "hf", f"o{number}/r-GGUF", "r-Q4_K_M.gguf", b"GGUF %d" % number)
        gguf(tmp_path / "mine" / f"{number}" / f"m{number}-Q8_0.gguf")

    def listed() -> list[int]:
        command = [sys.executable, "-c", _LIST, str(tmp_path / "mine")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return [int(word) for word in done.stdout.split()]

    assert listed() == [10, 5]  # the Hugging Face cache names its content: nothing is opened there
    assert listed() == [10, 0]
    changed = tmp_path / "mine/3/m3-Q8_0.gguf"
    changed.write_bytes(b"GGUFother and longer")
    assert listed() == [10, 1]
    changed.write_bytes(b"no model any more, and longer still")
    assert listed() == [9, 1]


def test_five_hundred_models_stay_the_same(places, tmp_path):
    for number in range(250):
        put(tmp_path / "hf", f"o{number}/r-GGUF", "r-Q4_K_M.gguf", b"GGUF %d" % number)
        gguf(tmp_path / "mine" / f"{number}" / f"m{number}-Q8_0.gguf")
    first = service(places, folders=[tmp_path / "mine"]).list()
    assert len(first) == 500
    assert service(places, folders=[tmp_path / "mine"]).list() == first


def test_a_changed_file_is_another_model(places, tmp_path):
    path = gguf(tmp_path / "mine/m.gguf", b"one")
    [before] = service(places, folders=[tmp_path / "mine"]).list()
    path.write_bytes(b"GGUFtwo and more")
    [after] = service(places, folders=[tmp_path / "mine"]).list()
    assert before.identity != after.identity
    (places.cache / "identities.json").write_bytes(b"rubbish")
    assert service(places, folders=[tmp_path / "mine"]).list() == [after]
