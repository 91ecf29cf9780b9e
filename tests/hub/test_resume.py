"""Kills, cuts and full disks: what came stays, what is whole is proven (security plan B1, B2, B7).

Seeds are fixed and printed; LLMCHAT_TORTURE_SEED chooses another.
"""

import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from llmchat.errors import HubError, Interrupted
from tests.hub.conftest import FILE, REF, REPO, SEED, Site, gguf_bytes, tell
from tests.hub.server import Fault

SIZE = 40_000_000


class Puller:
    """The warm process of `puller.py`."""

    def __init__(self, environ: dict[str, str], *changes: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.puller", *changes],
            cwd=Path(__file__).parents[2],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, ref: str) -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{ref}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def puller(site: Site) -> Iterator[Puller]:
    puller = Puller(site.environ)
    yield puller
    puller.close()


def _kill_at(hub, puller: Puller, offset: int) -> str:
    """One pull, killed with -9 when `offset` more bytes have been sent."""
    running: list[int] = []
    hub.cdn_faults.append(
        Fault(at=(offset, lambda: os.kill(running[0], signal.SIGKILL)), cut=offset + 1, end="rst")
    )
    hub.cdn_gate.clear()
    running.append(puller.start(REF))
    hub.cdn_gate.set()
    return puller.end()


@pytest.mark.timeout(400)
def test_kill_9_at_a_hundred_moments(hub, site, puller):
    """B1: sha256 equal after every pull, no partial file shown, at most 2 MB sent twice a kill."""
    chance = random.Random(SEED)
    size, rounds, kills_each = SIZE, 4, 25
    kills = 0
    for number in range(rounds):
        content = gguf_bytes(size, seed=SEED + number % 2)
        hub.put(REPO, {FILE: content})
        for _ in range(kills_each):
            part = site.parts()
            left = size - (part[0].stat().st_size if part else 0)
            assert _kill_at(hub, puller, chance.randrange(1, max(2, left // 8))) == "died -9"
            kills += 1
            assert site.models.list() == []
        puller.start(REF)
        assert puller.end() == "done"
        [model] = site.models.list()
        assert Path(model.path).read_bytes() == content
        assert site.parts() == []
        site.models.remove(REF)
    total = rounds * size
    again = (hub.sent - total) / kills
    tell(
        f"B1: {kills} kills, {rounds} pulls of {size:,}, sha256 right {rounds}/{rounds}, "
        f"{again:,.0f} bytes sent twice a kill, seed {SEED}"
    )
    assert hub.sent <= total + kills * 2_000_000


def test_kill_9_of_the_command_itself(hub, site):
    """B1 once more, through `llmchat pull`, every process of it."""
    content = gguf_bytes(8_000_000)
    hub.put(REPO, {FILE: content})
    command = [sys.executable, "-m", "llmchat", "pull", REF]
    for _ in range(2):
        hub.cdn_gate.clear()
        process = subprocess.Popen(
            command, env=site.environ, stderr=subprocess.DEVNULL, start_new_session=True
        )
        kill = partial(os.killpg, process.pid, signal.SIGKILL)
        hub.cdn_faults.append(Fault(at=(2_000_000, kill), cut=2_000_001))
        hub.cdn_gate.set()
        assert process.wait(60) == -signal.SIGKILL
        assert site.models.list() == []
    done = subprocess.run(command, env=site.environ, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == REF
    assert Path(site.models.resolve(REF).path).read_bytes() == content
    assert hub.sent <= 8_000_000 + 2 * 2_000_000


@pytest.mark.parametrize("end", ["rst", "fin"])
def test_a_hundred_cuts_in_one_run(hub, site, end):
    """B2: each retry goes on at the byte; as long as bytes come, it never gives up."""
    content = gguf_bytes(SIZE)
    hub.put(REPO, {FILE: content})
    chance = random.Random(SEED)
    cuts = 50
    for _ in range(cuts):
        hub.cdn_faults.append(Fault(cut=chance.randrange(1, SIZE // cuts), end=end))
    model = site.pull()
    assert Path(model.path).read_bytes() == content
    requests = hub.count("cdn", "GET")
    tell(f"B2 {end}: {cuts} cuts, {requests} requests, {hub.sent:,} bytes sent for {SIZE:,}")
    assert hub.count("cdn", "GET") == cuts + 1
    assert hub.sent <= SIZE + cuts * 2_000_000
    done = [progress.done for progress in site.progress]
    assert done == sorted(done)


def test_a_stalled_server_is_left(hub, places, tmp_path):
    content = gguf_bytes(300_000)
    hub.put(REPO, {FILE: content})
    hub.cdn_faults += [Fault(cut=1000, end="stall"), Fault(cut=0, end="stall")]
    site = Site(hub, places, tmp_path / "hf", read_timeout=0.2)
    assert Path(site.pull().path).read_bytes() == content


def test_it_gives_up_after_eight_tries_without_a_byte(hub, site):
    hub.put(REPO, {FILE: gguf_bytes(100_000)})
    hub.cdn_faults.append(Fault(cut=40_000))
    hub.always = Fault(cut=0, end="fin")
    with pytest.raises(HubError) as caught:
        site.pull()
    assert caught.value.key == "hub.gave_up"
    assert hub.count("cdn", "GET") == 1 + 8
    kept = site.parts()[0].stat().st_size
    assert 0 < kept <= 40_000
    hub.always = None
    site.pull()
    assert hub.requests[-1].headers["range"] == f"bytes={kept}-"


def test_stopping_keeps_what_came_and_lets_go_of_the_lock(hub, site):
    content = gguf_bytes(2_000_000)
    hub.put(REPO, {FILE: content})
    hub.cdn_faults.append(Fault(at=(1_000_000, site.stop.set), cut=1_000_001, end="stall"))
    with pytest.raises(Interrupted):
        site.pull()
    assert site.models.list() == []
    kept = site.parts()[0].stat().st_size
    site.stop.clear()
    assert Path(site.pull().path).read_bytes() == content
    assert hub.sent <= 2_000_000 + 1_000_001 - kept + 1
    assert site.parts() == []


class FullDisk:
    """A disk that takes so many bytes of a part file, and then none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._write = os.pwrite
        monkeypatch.setattr("llmchat.hub.partfile.os.pwrite", self)

    def __call__(self, descriptor: int, data: bytes, place: int) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(descriptor, data[: self.room], place)
        self.room -= written
        return written


def test_a_disk_that_fills_in_the_middle(hub, site, monkeypatch):
    """B7: `disk full after x of y`, the part is kept, and with room it goes on at the byte."""
    content = gguf_bytes(SIZE)
    hub.put(REPO, {FILE: content})
    disk = FullDisk(monkeypatch, 20_000_003)
    with pytest.raises(HubError) as caught:
        site.pull()
    assert caught.value.key == "hub.disk_full"
    assert "20.0 MB of 40.0 MB" in caught.value.sentence
    assert site.parts()[0].stat().st_size == 20_000_003
    disk.room = 2 * SIZE
    assert Path(site.pull().path).read_bytes() == content
    assert hub.requests[-1].headers["range"] == "bytes=20000003-"


def test_a_part_that_rotted_is_caught_by_the_hash(hub, site):
    """What lies on the disk is hashed again: a flipped bit there is never published."""
    hub.put(REPO, {FILE: gguf_bytes(1_000_000)})
    hub.cdn_faults.append(Fault(cut=500_000, at=(400_000, site.stop.set)))
    with pytest.raises(Interrupted):
        site.pull()
    site.stop.clear()
    [part] = site.parts()
    rotten = bytearray(part.read_bytes())
    rotten[1000] ^= 1
    part.write_bytes(rotten)
    with pytest.raises(HubError) as caught:
        site.pull()
    assert caught.value.key == "hub.checksum"
    assert site.parts() == []
    assert site.models.list() == []
    site.pull()


def test_a_part_that_is_longer_than_the_file_starts_again(hub, site):
    content = gguf_bytes(1000)
    hub.put(REPO, {FILE: content})
    plan = site.plan()
    part = site.cache / "models--o--model-GGUF" / "blobs" / f"{plan.files[0].digest}.llmchat-part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 5000)
    assert Path(site.pull().path).read_bytes() == content


def test_the_part_file_is_opened_without_following_links(hub, site, tmp_path):
    hub.put(REPO, {FILE: gguf_bytes(1000)})
    plan = site.plan()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    part = site.cache / "models--o--model-GGUF" / "blobs" / f"{plan.files[0].digest}.llmchat-part"
    part.parent.mkdir(parents=True)
    part.symlink_to(victim)
    with pytest.raises(HubError):
        site.pull()
    assert victim.read_bytes() == b"precious"
