"""Downloads that wait their turn, over a real hub on loopback."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmchat.core.queueing import Download, Queue
from llmchat.errors import NotFound
from tests.hub.conftest import FILE, REF, REPO, Site, gguf_bytes
from tests.hub.server import Fault, Hub

SIZE = 3_000_000


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        for seed, name in enumerate(("one", "two", "three")):
            hub.put(f"o/{name}", {FILE: gguf_bytes(SIZE, seed=seed)})
        yield hub


class Watched:
    """A queue, and every state of every download."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.queue: Queue = site.downloads.queue
        self._changed = threading.Condition()
        self.told: list[Download] = []
        self.queue.follow(self._note)

    def _note(self, download: Download) -> None:
        with self._changed:
            self.told.append(download)
            self._changed.notify_all()

    def start(self, ref: str) -> Download:
        return self.queue.start(self.site.plan(ref))

    def wait(self, condition: Callable[[tuple[Download, ...]], bool]) -> tuple[Download, ...]:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.queue.all()), 20)
        return self.queue.all()

    def wait_for_bytes(self, count: int) -> None:
        deadline = time.monotonic() + 20
        while not any(part.stat().st_size >= count for part in self.site.parts()):
            assert time.monotonic() < deadline
            self.site.hub.closing.wait(0.01)

    def states(self) -> list[str]:
        return [download.state for download in self.queue.all()]


@pytest.fixture
def watched(hub, places, tmp_path) -> Iterator[Watched]:
    watched = Watched(Site(hub, places, tmp_path / "hf", read_timeout=30.0))
    yield watched
    watched.site.downloads.close()


def ended(downloads: tuple[Download, ...]) -> bool:
    return all(d.state in ("done", "failed", "cancelled", "paused") for d in downloads)


def stalling(hub: Hub) -> None:
    hub.cdn_faults.append(Fault(cut=1_000_000, end="stall"))


def test_one_after_another(hub, watched):
    hub.cdn_gate.clear()
    first, second = watched.start("o/one"), watched.start("o/two")
    assert watched.start("o/one").id == first.id, "it is in the queue already"
    hub.cdn_gate.set()
    downloads = watched.wait(ended)
    assert [d.state for d in downloads] == ["done", "done"]
    assert [d.model.name for d in downloads if d.model] == [d.plan.name for d in downloads]
    order = [d.id for d in watched.told if d.state == "running"]
    assert order == sorted(order)
    amounts = [d.progress.done for d in watched.told if d.id == second.id and d.progress]
    assert amounts == sorted(amounts)


def test_pause_keeps_the_bytes_and_lets_the_next_go_first(hub, watched):
    stalling(hub)
    first = watched.start("o/one")
    watched.wait_for_bytes(900_000)
    second = watched.start("o/two")
    assert watched.queue.pause(first.id).state == "paused"
    watched.wait(lambda all_: all_[1].state == "done")
    assert watched.states() == ["paused", "done"]
    sent = hub.sent
    watched.queue.resume(first.id)
    watched.wait(ended)
    assert watched.states() == ["done", "done"]
    assert hub.sent - sent <= SIZE - 900_000
    assert watched.queue.resume(second.id).state == "done"


def test_cancel_leaves_nothing(hub, watched):
    stalling(hub)
    first, second = watched.start("o/one"), watched.start("o/two")
    watched.wait_for_bytes(900_000)
    watched.queue.cancel(first.id)
    watched.queue.cancel(second.id)
    third = watched.start("o/three")
    watched.wait(lambda all_: all_[2].state == "done")
    assert watched.states() == ["cancelled", "cancelled", "done"]
    assert watched.site.parts() == []
    assert not list(watched.site.cache.rglob("*.llmchat-part*"))
    watched.queue.resume(first.id)
    watched.wait(ended)
    assert watched.states() == ["done", "cancelled", "done"]
    assert third.plan.name in {model.name for model in watched.site.models.list()}


def test_a_failure_is_told_and_the_next_goes_on(hub, watched):
    hub.cdn_faults.append(Fault(flip=5))
    first = watched.start("o/one")
    watched.start("o/two")
    downloads = watched.wait(ended)
    assert [d.state for d in downloads] == ["failed", "done"]
    assert downloads[0].error is not None
    assert downloads[0].error.key == "hub.checksum"
    watched.queue.resume(first.id)
    watched.wait(ended)
    assert watched.states() == ["done", "done"]


def test_closing_stops_what_runs(hub, watched):
    stalling(hub)
    watched.start("o/one")
    watched.wait_for_bytes(900_000)
    watched.site.downloads.close()
    assert not any(t.name == "downloads" for t in threading.enumerate())
    [part] = watched.site.parts()
    assert part.stat().st_size >= 900_000


def test_an_unknown_number_is_an_error(watched):
    for call in (watched.queue.pause, watched.queue.resume, watched.queue.cancel):
        with pytest.raises(NotFound):
            call(7)


def test_another_processs_download_is_left_alone(hub, site, watched):
    """Calling off a plan does not throw away what somebody else is fetching."""
    hub.put(REPO, {FILE: gguf_bytes(SIZE)})
    plan = watched.site.plan(REF)
    stalling(hub)
    puller = threading.Thread(
        target=lambda: site.downloads.pull(plan, site.progress.append, site.stop), daemon=True
    )
    puller.start()
    watched.wait_for_bytes(900_000)
    watched.site.downloads.discard(plan)
    hub.cdn_faults.clear()
    puller.join(20)
    assert Path(site.models.resolve(REF).path).stat().st_size == SIZE


@pytest.fixture
def site(hub, places, watched) -> Site:
    return Site(hub, places, watched.site.cache, read_timeout=0.5)
