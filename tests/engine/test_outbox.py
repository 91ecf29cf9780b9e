"""Merging and limits of what waits for a client."""

import random
import time

from llmchat.engine.protocol import (
    Delta,
    Event,
    Finished,
    Pong,
    TokenInfo,
    decode_event,
    take_frames,
)
from llmchat.engine.shell.outbox import PACE, Outbox


def outbox(limit: int = 1 << 20) -> Outbox:
    return Outbox(limit, lambda: None)


def drain(box: Outbox) -> list[Event]:
    found: list[Event] = []
    while frame := box.take():
        found.extend(map(decode_event, take_frames(bytearray(frame))))
    return found


def test_adjacent_deltas_become_one():
    box = outbox()
    for number in range(5):
        box.put(Delta(id=1, text=f"{number} ", tokens=(TokenInfo(token=number),)))
    [merged] = drain(box)
    assert isinstance(merged, Delta)
    assert merged.text == "0 1 2 3 4 "
    assert [info.token for info in merged.tokens] == [0, 1, 2, 3, 4]
    assert box.empty


def test_kinds_choices_and_requests_are_not_mixed_and_keep_their_order():
    rng = random.Random(7)
    box = outbox(1 << 30)
    said: dict[tuple[int, int], list[tuple[str, str]]] = {}
    for number in range(2000):
        key = (rng.randint(1, 3), rng.randint(0, 2))
        kind = rng.choice(["text", "text", "thinking"])
        box.put(Delta(id=key[0], choice=key[1], kind=kind, text=f"{number};"))  # type: ignore[arg-type]
        said.setdefault(key, []).append((kind, f"{number};"))
        if rng.random() < 0.01:
            box.put(Pong(id=9, step=number, busy=True))
    got: dict[tuple[int, int], list[tuple[str, str]]] = {}
    frames = drain(box)
    for event in frames:
        if isinstance(event, Delta):
            pieces = [(event.kind, f"{piece};") for piece in event.text.split(";")[:-1]]
            got.setdefault((event.id, event.choice), []).extend((str(k), p) for k, p in pieces)
    assert got == said
    assert len(frames) < 2000


def test_nothing_passes_the_end_of_a_request():
    box = outbox()
    box.put(Delta(id=1, text="a"))
    box.put(Finished(id=1, reason="stop"))
    box.put(Delta(id=1, text="b"))
    assert [type(event).__name__ for event in drain(box)] == ["Delta", "Finished", "Delta"]


def test_above_the_limit_it_is_overflown_and_takes_no_more():
    box = outbox(limit=1000)
    for _ in range(20):
        box.put(Delta(id=1, text="x" * 100))
    assert box.overflown
    assert sum(len(event.text) for event in drain(box) if isinstance(event, Delta)) < 1500


def test_one_large_answer_passes_whatever_the_limit():
    box = outbox(limit=1000)
    box.put(Delta(id=1, text="x" * 100_000))
    assert not box.overflown


def test_taking_makes_room_again():
    box = outbox(limit=1000)
    for _ in range(100):
        box.put(Delta(id=1, text="x" * 500))
        assert drain(box)
    assert not box.overflown


def test_wakes_for_every_event_and_not_once_closed():
    calls: list[int] = []
    box = Outbox(1000, lambda: calls.append(1))
    box.put(Delta(id=1, text="a"))
    assert calls
    box.close()
    box.put(Delta(id=1, text="b"))
    assert box.take() == b""


def test_text_after_text_waits_for_more_and_everything_else_is_due_at_once():
    woken: list[float] = []
    box = Outbox(1 << 20, lambda: woken.append(time.monotonic()))
    box.put(Delta(id=1, text="a"))
    assert len(woken) == 1
    assert box.take()
    box.put(Delta(id=1, text="b"))
    now = time.monotonic()
    assert len(woken) == 1, "the second piece waits for a third"
    assert not box.due(now)
    assert now < box.look_at(now) <= now + PACE
    assert box.due(now + PACE)
    box.put(Finished(id=1, reason="stop"))
    assert len(woken) == 2
    assert box.due(now)
    first, last = drain(box)
    assert isinstance(first, Delta)
    assert first.text == "b"
    assert isinstance(last, Finished)
