"""Several connections for one file: they join where one is slow, and what they leave goes on."""

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llmchat.errors import HubError, Interrupted
from llmchat.hub.pace import Pace
from llmchat.hub.spans import Spans, boot_id, journal_of, read_spans
from tests.hub.conftest import FILE, REF, REPO, SEED, Site, gguf_bytes, tell
from tests.hub.server import Fault
from tests.hub.test_resume import Puller

SIZE = 12_000_000
EAGER: dict[str, Any] = {"connections": 4, "step": 500_000, "grow_after": 0.01, "fast": 1e12}
SLOW = Fault(rate=20e6)


@pytest.fixture
def content(hub) -> bytes:
    content = gguf_bytes(SIZE)
    hub.put(REPO, {FILE: content})
    hub.always = SLOW
    return content


@pytest.fixture
def eager(hub, places, tmp_path) -> Site:
    """A user whose pull takes helpers as soon as it may."""
    return Site(hub, places, tmp_path / "hf", **EAGER)


def ranges(hub) -> list[str]:
    return [r.headers["range"] for r in hub.requests if "range" in r.headers]


def test_slow_connections_are_joined_by_others(hub, eager, content):
    assert Path(eager.pull().path).read_bytes() == content
    assert hub.most_at_once >= 3
    assert len(ranges(hub)) > 4
    done = [progress.done for progress in eager.progress]
    assert done == sorted(done)
    tell(f"lanes: {len(ranges(hub))} ranges, {hub.sent:,} bytes sent for {SIZE:,}")
    assert hub.sent <= SIZE + 2_000_000, "only what was on its way when a claim got shorter"
    assert not list(eager.cache.rglob("*-part*"))


def test_one_connection_stays_alone_where_it_is_fast_or_the_file_small(hub, places, tmp_path):
    hub.put(REPO, {FILE: gguf_bytes(SIZE)})
    for config in ({"fast": 0.0}, {"connections": 1}, {"step": SIZE}):
        Site(hub, places, tmp_path / f"hf-{config}", **(EAGER | config)).pull()
    assert hub.most_at_once == 1
    assert ranges(hub) == []


def test_helpers_that_break_leave_their_bytes_to_others(hub, eager, content):
    hub.cdn_faults.append(SLOW)
    for number in range(12):
        end = ("rst", "fin")[number % 2]
        hub.cdn_faults.append(Fault(cut=50_000 * number, end=end, rate=20e6))
    assert Path(eager.pull().path).read_bytes() == content


def test_a_server_that_forgets_ranges_is_asked_by_one_alone(hub, eager, content):
    hub.always = Fault(rate=20e6, ignore_range=True)
    assert Path(eager.pull().path).read_bytes() == content


def test_what_a_helper_finds_out_ends_the_pull(hub, eager, content):
    hub.always = Fault(rate=5e6)

    def change() -> None:
        hub.put(REPO, {FILE: gguf_bytes(SIZE, seed=SEED + 1)})

    hub.cdn_faults += [Fault(rate=5e6), Fault(cut=1000, at=(900, change))]
    with pytest.raises(HubError) as caught:
        eager.pull()
    assert caught.value.key in ("hub.changed", "hub.checksum")
    assert eager.models.list() == []


def stop_with_holes(hub, site: Site) -> Path:
    """Stop a pull that has bytes beyond a hole; the partial file."""

    def look(progress) -> None:
        for part in site.parts():
            spans = read_spans(part, part.stat().st_size)
            if spans.front != spans.total > SIZE // 4:
                site.stop.set()

    hub.always = Fault(rate=1e6)  # else it may be whole between two looks
    with pytest.raises(Interrupted):
        site.downloads.pull(site.plan(), look, site.stop)
    hub.always = SLOW
    site.stop.clear()
    [part] = site.parts()
    assert journal_of(part).exists()
    return part


def test_holes_are_filled_by_the_next_pull(hub, eager, content):
    part = stop_with_holes(hub, eager)
    here = read_spans(part, part.stat().st_size).total
    assert eager.plan().here == here
    sent = hub.sent
    assert Path(eager.pull().path).read_bytes() == content
    assert hub.sent - sent <= SIZE - here + 2_000_000
    assert eager.progress[0].done >= here


def test_one_connection_fills_them_too(hub, eager, places, content):
    stop_with_holes(hub, eager)
    alone = Site(hub, places, eager.cache, connections=1)
    assert Path(alone.pull().path).read_bytes() == content


def test_a_journal_that_cannot_be_trusted_is_not(hub, eager, content):
    part = stop_with_holes(hub, eager)
    journal_of(part).write_bytes(b"{" * 50)
    assert eager.plan().here == 0
    assert Path(eager.pull().path).read_bytes() == content


def test_a_power_loss_leaves_what_was_forced_to_the_disk(hub, eager, content):
    part = stop_with_holes(hub, eager)
    journal = journal_of(part)
    journal.write_bytes(journal.read_bytes().replace(boot_id().encode(), b"another boot"))
    assert eager.plan().here == 0, "nothing was forced yet: less than 64 MiB"
    assert Path(eager.pull().path).read_bytes() == content


@pytest.mark.timeout(400)
@pytest.mark.parametrize("rounds", [1, pytest.param(13, marks=pytest.mark.torture)])
def test_kills_of_a_pull_with_four_connections(hub, eager, content, rounds):
    """B1 with holes: at most 2 MB sent twice a kill, and never another content."""
    chance = random.Random(SEED)
    kills, sent = 0, 0
    puller = Puller(
        eager.environ,
        *(
            f"{name}={value:.0f}" if value > 1 else f"{name}={value}"
            for name, value in EAGER.items()
        ),
    )
    hub.always = Fault(rate=100e6)
    try:
        for _ in range(rounds):
            for _ in range(8):
                _kill_after(hub, puller, chance.randrange(100_000, SIZE // 12))
                kills += 1
                assert eager.models.list() == []
            puller.start(REF)
            assert puller.end() == "done"
            [model] = eager.models.list()
            assert Path(model.path).read_bytes() == content
            assert not list(eager.cache.rglob("*-part*"))
            eager.models.remove(REF)
        sent = hub.sent
    finally:
        puller.close()
    again = (sent - rounds * SIZE) / kills
    tell(f"B1 lanes: {kills} kills, {again:,.0f} bytes sent twice a kill, seed {SEED}")
    assert sent <= rounds * SIZE + kills * 2_000_000


def _kill_after(hub, puller: Puller, count: int) -> None:
    """One pull, killed with -9 when `count` more bytes have gone out over all connections."""
    hub.cdn_gate.clear()
    goal = hub.sent + count
    process = puller.start(REF)
    hub.cdn_gate.set()
    deadline = time.monotonic() + 30
    while hub.sent < goal and time.monotonic() < deadline:
        hub.closing.wait(0.001)
    os.kill(process, signal.SIGKILL)
    assert puller.end() == "died -9"
    while hub.open_files and time.monotonic() < deadline:  # what is on its way is this kill's
        hub.closing.wait(0.001)


def test_spans():
    spans = Spans([(10, 20), (0, 5), (5, 10), (30, 40)])
    assert list(spans) == [(0, 20), (30, 40)]
    assert (spans.total, spans.front) == (30, 20)
    assert spans.gaps(50) == [(20, 30), (40, 50)]
    assert Spans([(3, 3)]).gaps(5) == [(0, 5)]
    assert Spans([(5, 9)]).front == 0
    assert Spans([(0, 9)]).gaps(9) == []


def test_any_order_of_pieces_is_one_span():
    chance = random.Random(SEED)
    for _ in range(50):
        edges = sorted(chance.sample(range(1, 1000), 9))
        pieces = list(zip([0, *edges], [*edges, 1000], strict=True))
        chance.shuffle(pieces)
        spans = Spans()
        for start, end in pieces:
            assert sum(b - a for a, b in spans.gaps(1000)) == 1000 - spans.total
            spans.add(start, end)
        assert list(spans) == [(0, 1000)]


def test_a_pace_makes_bytes_wait():
    now, waits = [0.0], []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            now[0] += timeout or 0.0
            return False

    pace = Pace(1000.0, lambda: now[0])
    for _ in range(20):
        pace.came(500, Stop())
    assert 10.0 - 0.5 <= now[0] <= 10.0
    Pace().came(10**9, Stop())
    assert len(waits) <= 20


def test_a_limit_holds_over_all_connections(hub, eager):
    hub.put(REPO, {FILE: gguf_bytes(600_000)})
    plan = eager.plan()
    began = time.monotonic()
    eager.downloads.pull(plan, eager.progress.append, eager.stop, limit=1_000_000.0)
    assert time.monotonic() - began >= 0.3
    rates = [progress.rate for progress in eager.progress if progress.rate]
    assert all(rate < 3_000_000 for rate in rates[2:])
