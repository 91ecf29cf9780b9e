"""Several pulls of one file, and people who remove it meanwhile (security plan B8)."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llmchat.errors import HubError, Interrupted
from tests.hub.conftest import FILE, REF, REPO, Site, gguf_bytes, tell
from tests.hub.server import Fault

SIZE = 8_000_000


def test_four_pulls_share_one_download(hub, site, places):
    content = gguf_bytes(SIZE)
    hub.put(REPO, {FILE: content})
    hub.cdn_gate.clear()
    sites = [Site(hub, places, site.cache) for _ in range(4)]
    results: list[str] = []

    def pull(one: Site) -> None:
        results.append(one.pull().path)

    threads = [threading.Thread(target=pull, args=(one,)) for one in sites]
    for thread in threads:
        thread.start()
    while not all(_has_planned(one) for one in sites):
        threads[0].join(0.01)
    hub.cdn_gate.set()
    for thread in threads:
        thread.join(60)
    assert len(results) == 4
    assert len(set(results)) == 1
    assert Path(results[0]).read_bytes() == content
    tell(f"B8: 4 pulls, {hub.count('cdn', 'GET')} download, {hub.sent:,} bytes for {SIZE:,}")
    assert hub.count("cdn", "GET") == 1
    assert hub.sent == SIZE
    stages = [{progress.stage for progress in one.progress} for one in sites]
    assert sum("waiting" in stage for stage in stages) == 3


def _has_planned(site: Site) -> bool:
    return any(progress.stage in ("asking", "waiting") for progress in site.progress)


def test_a_waiting_pull_can_be_stopped(hub, site, places):
    hub.put(REPO, {FILE: gguf_bytes(1000)})
    plan = site.plan()
    lock = site.cache / ".locks" / "models--o--model-GGUF" / f"{plan.files[0].digest}.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def stop_when_waiting(progress):
            assert progress.stage == "waiting"
            site.stop.set()

        with pytest.raises(Interrupted):
            site.downloads.pull(plan, stop_when_waiting, site.stop)
    site.stop.clear()
    site.downloads.pull(plan, site.progress.append, site.stop)


def test_huggingfaces_own_client_waits_for_us(hub, site):
    """The lock is the one huggingface_hub takes for that blob."""
    from huggingface_hub.utils._fixes import WeakFileLock

    hub.put(REPO, {FILE: gguf_bytes(1000)})
    plan = site.plan()
    path = site.cache / ".locks" / "models--o--model-GGUF" / f"{plan.files[0].digest}.lock"
    path.parent.mkdir(parents=True)
    seen = threading.Event()

    def note_waiting(progress):
        if progress.stage == "waiting":
            seen.set()

    puller = threading.Thread(
        target=site.downloads.pull, args=(plan, note_waiting, site.stop), daemon=True
    )
    with WeakFileLock(path):
        puller.start()
        assert seen.wait(10)
        assert site.models.list() == []
    puller.join(10)
    assert [model.name for model in site.models.list()] == [REF]


def test_no_lock_outlives_a_kill(hub, site):
    hub.put(REPO, {FILE: gguf_bytes(SIZE)})
    hub.cdn_gate.clear()
    process = subprocess.Popen(
        [sys.executable, "-m", "llmchat", "pull", REF],
        env=site.environ,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = threading.Event()
    for _ in range(600):
        if site.parts():
            break
        deadline.wait(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    hub.cdn_gate.set()
    [lock] = (site.cache / ".locks").rglob("*.lock")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    site.pull()


def test_ctrl_c_twice_leaves_a_part_that_goes_on(hub, site):
    content = gguf_bytes(SIZE)
    hub.put(REPO, {FILE: content})
    for _ in range(2):
        reached = threading.Event()
        hub.cdn_faults.append(Fault(at=(2_000_000, reached.set), cut=2_000_001, end="stall"))
        process = subprocess.Popen(
            [sys.executable, "-m", "llmchat", "pull", REF],
            env=site.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert reached.wait(30)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
        assert process.returncode == 130, errors
        assert out == b""
        assert b"Traceback" not in errors
        assert site.models.list() == []
    assert Path(site.pull().path).read_bytes() == content


def test_removed_while_it_is_pulled(hub, site):
    """Whoever deletes the folder under a pull gets an error or a whole model, never half a one."""
    content = gguf_bytes(SIZE)
    hub.put(REPO, {FILE: content})

    def delete() -> None:
        for part in site.parts():
            part.unlink()

    hub.cdn_faults.append(Fault(at=(SIZE // 2, delete)))
    with pytest.raises(HubError) as caught:
        site.pull()
    assert caught.value.key == "hub.unwritable"
    assert site.models.list() == []
    assert Path(site.pull().path).read_bytes() == content


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_store_that_cannot_be_written(hub, site):
    hub.put(REPO, {FILE: gguf_bytes(1000)})
    site.cache.mkdir()
    site.cache.chmod(0o500)
    with pytest.raises(HubError) as caught:
        site.pull()
    assert caught.value.key == "hub.unwritable"


def test_a_store_that_is_a_file(hub, site):
    hub.put(REPO, {FILE: gguf_bytes(1000)})
    site.cache.write_text("not a folder")
    with pytest.raises(HubError) as caught:
        site.pull()
    assert caught.value.key == "hub.unwritable"
    assert caught.value.hint
