"""The thread that reads ahead: what comes of it, giving up, and that it ends."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llmchat.engine.disk import Candidate, Found, Reader
from tests.engine.disk.states import conversation, shelf, snapshot, state_of

TOKENS = conversation(1, 700)
WAIT = 20.0


@pytest.fixture
def came() -> queue.SimpleQueue[Found | None]:
    return queue.SimpleQueue()


def test_it_reads_on_another_thread(tmp_path: Path, came: queue.SimpleQueue[Found | None]):
    mine = shelf(tmp_path / "kv")
    assert mine.put(snapshot(TOKENS))
    candidate = mine.find(TOKENS)
    assert candidate is not None
    threads = []

    def read(wanted: Candidate, unwanted: Callable[[], bool]) -> Found | None:
        threads.append(threading.current_thread())
        return mine.read(wanted, unwanted)

    reader = Reader(read)
    reader.start(candidate, came.put)
    found = came.get(timeout=WAIT)
    assert found is not None
    assert np.array_equal(found.state, state_of(TOKENS))
    assert threads != [threading.current_thread()]
    assert reader.close(WAIT)
    assert not threads[0].is_alive()


def test_what_nobody_wants_is_not_read_to_its_end(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    assert mine.put(snapshot(TOKENS))
    candidate = mine.find(TOKENS)
    assert candidate is not None
    assert mine.read(candidate, lambda: True) is None
    assert mine.find(TOKENS) == candidate  # that says nothing against it


def test_who_closes_it_gives_up_what_is_read(tmp_path: Path, came: queue.SimpleQueue[Found | None]):
    began = threading.Event()

    def endless(_wanted: Candidate, unwanted: Callable[[], bool]) -> Found | None:
        began.set()
        while not unwanted():
            pass
        return None

    mine = shelf(tmp_path / "kv")
    assert mine.put(snapshot(TOKENS))
    candidate = mine.find(TOKENS)
    assert candidate is not None
    reader = Reader(endless)
    reader.start(candidate, came.put)
    assert began.wait(WAIT)
    assert reader.close(WAIT)
    assert came.get(timeout=WAIT) is None
    assert reader.close(0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_breaks_whoever_waits_hears_of_it(
    tmp_path: Path, came: queue.SimpleQueue[Found | None]
):
    def broken(_wanted: Candidate, _unwanted: Callable[[], bool]) -> Found | None:
        raise ZeroDivisionError

    mine = shelf(tmp_path / "kv")
    assert mine.put(snapshot(TOKENS))
    candidate = mine.find(TOKENS)
    assert candidate is not None
    reader = Reader(broken)
    reader.start(candidate, came.put)
    assert came.get(timeout=WAIT) is None
    assert reader.close(WAIT)
