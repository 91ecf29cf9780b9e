"""Models that the user brings, second names, and what taking them away frees."""

import errno
import os
from pathlib import Path

import pytest

from llmchat.core.importing import Importing
from llmchat.core.models import Models
from llmchat.core.runtime import build_models
from llmchat.core.settings import SettingsService
from llmchat.errors import ModelFileError, NotFound, UsageError
from llmchat.paths import Places
from tests.core.test_models import put
from tests.hub.conftest import sha256
from tests.library.test_stores import ollama_model
from tests.unit.gguf.crafted import gguf

MODEL = gguf()


class User:
    """One user's library and names."""

    def __init__(self, places: Places) -> None:
        self.settings = SettingsService(places, dict(os.environ))
        self.models: Models = build_models(places, dict(os.environ), self.settings)
        self.importing = Importing(self.models, self.settings)

    def names(self) -> list[str]:
        return [model.name for model in self.models.list()]


@pytest.fixture
def user(places: Places) -> User:
    return User(places)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine" / "My model (v2)-Q4_0.gguf"
    path.parent.mkdir()
    path.write_bytes(MODEL)
    return path


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    return tmp_path / "hf"


def test_a_file_is_referred_to_where_it_lies(user, file, hub_cache):
    model = user.importing.import_(str(file))
    assert (model.name, model.path) == ("My-model-v2-Q4_0", str(file))
    assert user.names() == ["My-model-v2-Q4_0"]
    assert not hub_cache.exists()
    plan = user.models.plan_removal(model.name)
    assert (plan.source, plan.freed) == ("name", 0)
    assert user.importing.forget(model.name) == str(file)
    assert user.names() == []
    assert file.exists()


@pytest.mark.parametrize("how", ["copy", "hardlink", "move", "symlink"])
def test_into_the_shared_cache(user, file, hub_cache, how):
    inode = file.stat().st_ino
    seen: list[int] = []
    model = user.importing.import_(
        str(file), how=how, name="mine", on_bytes=lambda done, _total: seen.append(done)
    )
    assert model.name == "mine"
    assert user.names() == ["mine"]
    assert Path(model.path).read_bytes() == MODEL
    assert user.models.resolve("mine") == user.models.resolve(model.path) == model
    assert file.exists() == (how != "move")
    assert (os.stat(model.path).st_ino == inode) == (how != "copy")
    assert model.identity == sha256(MODEL) or how == "symlink"
    assert seen[-1:] == ([] if how == "symlink" else [len(MODEL)])
    plan = user.models.plan_removal("mine")
    assert plan.freed == (len(MODEL) if how in ("copy", "move") else 0)
    user.models.carry_out(plan)
    assert user.names() == []
    assert list(hub_cache.rglob("*")) == [], "not even an empty folder"
    assert file.exists() == (how != "move"), "the user's own file is the user's"


def test_hugging_faces_scan_reads_it(user, file, hub_cache):
    user.importing.import_(str(file), how="copy", name="mine")
    from huggingface_hub import scan_cache_dir

    scanned = scan_cache_dir(hub_cache)
    assert scanned.warnings == []
    [repo] = scanned.repos
    [revision] = repo.revisions
    assert (repo.repo_id, repo.size_on_disk) == ("imported/mine", len(MODEL))
    assert revision.refs, "`hf cache prune` takes what no ref names"


def test_all_parts_of_a_split_model(user, tmp_path):
    keys = {"split.count": 2, "split.no": 0}
    paths = [tmp_path / f"big-Q8_0-{n:05}-of-00002.gguf" for n in (1, 2)]
    paths[0].write_bytes(gguf(keys))
    with pytest.raises(ModelFileError):
        user.importing.import_(str(paths[0]), how="copy")
    paths[1].write_bytes(gguf(keys | {"split.no": 1}))
    model = user.importing.import_(str(paths[0]), how="copy")
    assert model.name == "big-Q8_0"
    assert len(model.shards) == 2
    assert user.models.plan_removal("big-Q8_0").freed == model.size


def test_the_same_file_twice_is_one_model(user, file):
    first = user.importing.import_(str(file), how="copy", name="one")
    assert user.importing.import_(str(file), how="move", name="two") == first
    assert user.names() == ["one"]
    assert user.models.resolve("two") == first
    assert not file.exists(), "moved, although the content was here"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("../x", "library.bad_name"),
        ("a b", "library.bad_name"),
        ("-x", "library.bad_name"),
        ("o/r", "library.bad_name"),
        ("x.gguf", "library.bad_name"),
        ("a:b", "library.bad_import_name"),
        ("a--b", "library.bad_import_name"),
        ("taken", "library.alias_taken"),
    ],
)
def test_names_that_cannot_be(user, file, hub_cache, name, key):
    user.importing.alias("taken", "o/absent")
    with pytest.raises(UsageError) as caught:
        user.importing.import_(str(file), how="copy", name=name)
    assert caught.value.key == key
    assert caught.value.hint
    assert not hub_cache.exists()


def test_what_is_no_model_is_not_imported(user, tmp_path):
    page = tmp_path / "page.gguf"
    page.write_bytes(b"<html>not found</html>")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(MODEL[:200])
    for path in (page, cut, tmp_path):
        with pytest.raises(ModelFileError):
            user.importing.import_(str(path), how="copy")
    with pytest.raises(NotFound):
        user.importing.import_(str(tmp_path / "absent.gguf"))
    assert user.names() == []


def test_another_disk(user, file, hub_cache, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr("llmchat.core.importing.os.link", refuse)
    with pytest.raises(ModelFileError) as caught:
        user.importing.import_(str(file), how="hardlink", name="mine")
    assert caught.value.key == "library.other_disk"
    assert user.names() == []
    model = user.importing.import_(str(file), how="move", name="mine")
    assert Path(model.path).read_bytes() == MODEL
    assert not file.exists()
    assert not list(hub_cache.rglob("*.llmchat-part"))


@pytest.mark.parametrize("step", ["link", "write_ref"])
def test_a_move_that_dies_loses_nothing(user, file, monkeypatch, step):
    """Killed before the last step, the file is still where it was, and moving it again works."""

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(f"llmchat.hub.cache.RepoFolder.{step}", die)
        with pytest.raises(Killed):
            user.importing.import_(str(file), how="move", name="mine")
    assert file.read_bytes() == MODEL
    assert user.importing.import_(str(file), how="move", name="mine").name == "mine"
    assert not file.exists()


def test_a_file_that_stays_after_a_move_is_told(user, file, monkeypatch):
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == file:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        with pytest.raises(ModelFileError) as caught:
            user.importing.import_(str(file), how="move", name="mine")
    assert caught.value.key == "library.cannot_move"
    assert user.names() == ["mine"], "it is here, and there"


def test_a_copy_has_settings_of_its_own(user, hub_cache):
    put(hub_cache, "o/m", "m-Q4_0.gguf", MODEL)
    user.settings.set('models."o/m:Q4_0".sampling.temperature', "0.1")
    copied = user.importing.copy("o/m", "cool")
    assert copied.name == "cool"
    assert copied.path == user.models.resolve("o/m").path
    assert user.names() == ["cool", "o/m:Q4_0"]
    user.settings.set("models.cool.sampling.top_k", "7")
    own = user.settings.layers(model="cool").values.sampling
    first = user.settings.layers(model="o/m:Q4_0").values.sampling
    assert (own.temperature, own.top_k) == (0.1, 7)
    assert (first.temperature, first.top_k) == (0.1, None)
    with pytest.raises(UsageError):
        user.importing.copy("o/m", "cool")
    plan = user.models.plan_removal("cool")
    assert (plan.source, plan.freed) == ("name", 0)
    user.importing.forget("cool")
    assert user.names() == ["o/m:Q4_0"]
    assert "cool" not in user.settings.settings.models


def test_an_alias_is_one_more_way_to_say_a_name(user, hub_cache, places):
    put(hub_cache, "o/m", "m-Q4_0.gguf", MODEL)
    assert user.importing.alias("fast", "o/m:Q4_0")
    assert not user.importing.alias("later", "o/absent:Q8_0")
    assert user.models.resolve("FAST").name == "o/m:Q4_0"
    assert user.names() == ["o/m:Q4_0"]
    assert User(places).models.resolve("fast").name == "o/m:Q4_0", "it is written down"
    with pytest.raises(UsageError):
        user.importing.alias("same", "SAME")
    with pytest.raises(NotFound):
        user.importing.forget("absent")


# What taking away frees, in whose store.


def test_the_last_model_of_a_repository_leaves_nothing(user, hub_cache):
    put(hub_cache, "o/m", "m-Q4_0.gguf", MODEL)
    refs = hub_cache / "models--o--m" / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    user.models.remove("o/m:Q4_0")
    assert list(hub_cache.iterdir()) == []


def test_other_stores_only_when_asked(user, places, home):
    lmstudio = home / ".lmstudio/models/o/r-GGUF/r-Q8_0.gguf"
    lmstudio.parent.mkdir(parents=True)
    lmstudio.write_bytes(MODEL)
    with pytest.raises(ModelFileError) as caught:
        user.models.plan_removal("o/r-GGUF:Q8_0")
    assert "--anywhere" in (caught.value.hint or "")
    plan = user.models.plan_removal("o/r-GGUF:Q8_0", anywhere=True)
    assert (plan.freed, plan.blobs) == (len(MODEL), (str(lmstudio),))
    user.models.carry_out(plan)
    assert not lmstudio.exists()


def test_ollamas_blob_stays_while_another_name_wants_it(user, home):
    shared = MODEL + b"shared"
    for name in ("one", "two"):
        ollama_model(
            home, f"registry.ollama.ai/library/{name}/latest", {"model": shared, "params": b"{}"}
        )
    # One content is one model here; Ollama has two names for it.
    assert user.names() == ["one:latest"]
    assert user.models.plan_removal("one:latest", anywhere=True).freed == 0
    user.models.remove("one:latest", anywhere=True)
    assert user.names() == ["two:latest"]
    assert user.models.remove("two:latest", anywhere=True).freed == len(shared)
    assert user.names() == []


def test_an_incomplete_set_is_told_and_not_run(user, hub_cache):
    put(hub_cache, "o/split", "m-Q4_0-00001-of-00003.gguf", MODEL)
    put(hub_cache, "o/split", "m-Q4_0-00003-of-00003.gguf", MODEL + b"3")
    assert user.names() == []
    [found] = user.models.incomplete()
    assert (found.name, len(found.paths), found.missing) == ("o/split:Q4_0", 2, 1)
    with pytest.raises(NotFound):
        user.models.resolve("o/split:Q4_0")
    assert user.models.plan_removal("o/split:Q4_0").freed == 2 * len(MODEL) + 1
    put(hub_cache, "o/split", "m-Q4_0-00002-of-00003.gguf", MODEL + b"2")
    assert user.names() == ["o/split:Q4_0"]
    assert user.models.incomplete() == []
