"""Kills between shards, orphans of dead pulls, and disks that are really full (B7, B9, B10)."""

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.core.leftovers import leftovers, remove
from llmchat.errors import HubError, Interrupted
from llmchat.hub.cache import RepoFolder
from llmchat.whole_file import PART_SUFFIX, beside
from tests.cli.program import run
from tests.core.test_models import put
from tests.hub.conftest import FILE, REF, REPO, SEED, Site, gguf_bytes, tell
from tests.hub.server import Fault
from tests.hub.test_resume import Puller

SHARDS = {f"m-Q4_0-{n:05}-of-00003.gguf": gguf_bytes(400_000 + n, seed=SEED + n) for n in (1, 2, 3)}
SPLIT = "o/split:Q4_0"


@pytest.fixture
def puller(site: Site) -> Iterator[Puller]:
    puller = Puller(site.environ)
    yield puller
    puller.close()


def kill_at(hub, puller: Puller, number: int, offset: int) -> None:
    """A pull of the split model that dies at a byte of its `number`th file from now."""
    running: list[int] = []
    hub.cdn_faults += [Fault()] * number
    hub.cdn_faults.append(
        Fault(at=(offset, lambda: os.kill(running[0], signal.SIGKILL)), cut=offset + 1)
    )
    hub.cdn_gate.clear()
    running.append(puller.start(SPLIT))
    hub.cdn_gate.set()
    assert puller.end() == "died -9"
    hub.cdn_faults.clear()


def test_a_split_model_killed_between_its_parts(hub, site, puller):
    """B9: it is a model when it is whole, and until then it is told how much is here."""
    hub.put("o/split", SHARDS)
    told = []
    for parts in (0, 1, 2):
        kill_at(hub, puller, 0 if parts == 0 else 1, 1 if parts else 100)
        assert site.models.list() == []
        told.append([(one.name, len(one.paths), one.missing) for one in site.models.incomplete()])
    assert told == [[], [(SPLIT, 1, 2)], [(SPLIT, 2, 1)]]
    listed = run("list", env=site.environ)
    assert "2 of 3 parts" in listed.stderr
    assert SPLIT not in listed.stdout
    assert run("run", SPLIT, "hi", env=site.environ).returncode == 3
    model = site.pull(SPLIT)
    assert [Path(path).read_bytes() for path in model.shards] == list(SHARDS.values())
    tell(f"B9: 3 kills between 3 parts, {hub.sent:,} bytes sent for {model.size:,}")
    assert hub.sent <= model.size + 3 * 200_000


def test_parts_of_another_revision_are_no_model(hub, site):
    """B9: whole means whole at one commit; what both commits share is fetched once."""
    hub.put("o/split", SHARDS, commit="a" * 40)
    first = site.pull(SPLIT)
    changed = dict(SHARDS) | {"m-Q4_0-00002-of-00003.gguf": gguf_bytes(400_002, seed=SEED + 9)}
    hub.put("o/split", changed, commit="b" * 40)
    hub.cdn_faults.append(Fault(status=404))
    hub.always = Fault(status=404)
    with pytest.raises(HubError):
        site.pull(SPLIT)
    [still] = site.models.list()
    assert still == first, "the old revision is whole, and still the model"
    hub.always = None
    sent = hub.sent
    site.pull(SPLIT)
    assert hub.sent - sent == 400_002


def test_orphans_are_named_and_removed_on_request(hub, site):
    """B10: our own is gone on with; others' are named; nothing that is being written is touched."""
    content = gguf_bytes(2_000_000)
    hub.put(REPO, {FILE: content})
    hub.cdn_faults.append(Fault(cut=700_000, at=(600_000, site.stop.set)))
    plan = site.plan()
    with pytest.raises(Interrupted):
        site.downloads.pull(plan, site.progress.append, site.stop)
    blobs = site.cache / "models--o--model-GGUF" / "blobs"
    foreign = [blobs / f"{'a' * 64}.1234abcd.incomplete", blobs / f"{'b' * 40}.incomplete"]
    for path in foreign:
        path.write_bytes(bytes(50_000))
    (blobs / "notes.incomplete").write_text("not one of these")
    found = leftovers(site.cache)
    assert [one.ours for one in found] == [False, False, True] or len(found) == 3
    assert len(found) == 3
    doctor = run("doctor", env=site.environ).stdout
    for one in found:
        assert one.path in doctor
    assert "doctor --clean" in doctor
    assert run("doctor", "--clean", env=site.environ).returncode == 2, "a pipe cannot be asked"
    lock = site.cache / ".locks" / "models--o--model-GGUF" / f"{'a' * 64}.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        gone = remove(site.cache, [one for one in found if not one.ours])
    assert [one.path for one in gone] == [str(foreign[1])]
    site.stop.clear()
    site.pull()
    disk = sum(
        p.stat().st_blocks * 512 for p in blobs.iterdir() if not p.name.endswith("incomplete")
    )
    tell(f"B10: {disk:,} bytes on the disk for {len(content):,}")
    assert disk <= len(content) + 8192
    assert run("doctor", "--clean", "-y", env=site.environ).returncode == 0
    assert sorted(path.name for path in blobs.iterdir()) == sorted(
        [plan.files[0].digest, "notes.incomplete"]
    )
    assert [model.name for model in site.models.list()] == [REF]


def test_what_a_killed_import_left_is_named_and_removed(hub_cache):
    put(hub_cache, "o/m", "m-Q4_0.gguf", b"GGUF")
    blob = RepoFolder(hub_cache, "o/m").blob("c" * 64)
    with beside(blob) as half:
        half.write_bytes(b"GG")
        before = blob.with_name(f"{blob.name}.4711{PART_SUFFIX}")  # as earlier versions named it
        before.write_bytes(b"GG")
        found = leftovers(hub_cache)
        assert [one.path for one in found] == sorted([str(half), str(before)])
        assert all(one.ours for one in found)
        assert remove(hub_cache, found) == found
        assert not half.exists()


def test_cleaning_leaves_whole_models(hub_cache, tmp_path):
    put(hub_cache, "o/m", "m-Q4_0.gguf", b"GGUF")
    assert leftovers(hub_cache) == []
    assert run("doctor", "--clean").returncode == 0


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    return tmp_path / "hf"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(hub, places, small_disk):
    """B7: refused beforehand with both numbers; full in the middle, kept; with room it goes on."""
    size = 12_000_000
    hub.put("o/large", {"l-Q8_0.gguf": gguf_bytes(40_000_000)})
    hub.put(REPO, {FILE: gguf_bytes(size)})
    site = Site(hub, places, small_disk / "hf")
    refused = run("pull", "o/large", env=site.environ)
    assert refused.returncode == 5
    assert "40.0 MB" in refused.stderr
    assert "21.0 MB" in refused.stderr, "20 MiB are free"
    assert hub.sent == 0
    filler = small_disk / "filler"
    hub.cdn_faults.append(Fault(at=(2_000_000, lambda: fill(filler))))
    full = run("pull", REF, env=site.environ)
    assert full.returncode == 5
    assert "disk is full after" in full.stderr
    assert site.models.list() == []
    [part] = site.parts()
    kept = part.stat().st_size
    assert kept >= 1_000_000
    filler.unlink()
    assert run("pull", REF, env=site.environ).returncode == 0
    tell(f"B7: full after {kept:,} of {size:,}, then gone on at the byte")
    assert hub.requests[-1].headers["range"] == f"bytes={kept}-"


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            return
