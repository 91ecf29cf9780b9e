"""The queue and the loop of every backend, over something that computes nothing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from llmchat.engine.protocol import Event, Failed, Tokenize, Tokenized
from llmchat.engine.worker.capi import CApiError
from llmchat.engine.worker.inbox import Inbox, Request
from llmchat.errors import GenerationFailed

DEADLINE = 20.0


class Asleep:
    """`Turns` with nothing to do until something has come from elsewhere."""

    def __init__(self) -> None:
        self.looked = threading.Event()
        self.come = False
        self.turned = threading.Event()

    @property
    def busy(self) -> bool:
        self.looked.set()
        return self.come

    def turn(self) -> None:
        self.come = False
        self.turned.set()

    def fail_everything(self, message: str) -> None:
        raise AssertionError(message)

    def end_everything(self) -> None:
        return


def test_what_comes_from_elsewhere_wakes_it():
    inbox, turns = Inbox(), Asleep()
    thread = threading.Thread(target=inbox.serve, args=(lambda _request: None, turns))
    thread.start()
    try:
        assert turns.looked.wait(DEADLINE)
        turns.come = True
        inbox.wake()
        assert turns.turned.wait(DEADLINE)
    finally:
        inbox.stop()
        thread.join(DEADLINE)
    assert not thread.is_alive()


def work(number: int) -> Tokenize:
    return Tokenize(id=number, text="a")


class Steps:
    """`Turns` over requests that end when they are cancelled or told to."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.cancelled: list[Request] = []
        self.broken: Exception | None = None
        self.went_on = threading.Event()

    @property
    def busy(self) -> bool:
        return bool(self.requests)

    def add(self, request: Request) -> None:
        self.requests.append(request)
        request.bind(partial(self.cancelled.append, request))

    def turn(self) -> None:
        if self.broken is not None:
            broken, self.broken = self.broken, None
            raise broken
        for request in self.cancelled:
            self.requests.remove(request)
            request.fail("cancelled", "")
        self.cancelled.clear()
        self.went_on.set()

    def fail_everything(self, message: str) -> None:
        while self.requests:
            self.requests.pop().fail("internal", message)

    def end_everything(self) -> None:
        while self.requests:
            self.requests.pop().fail("cancelled", "")


class Heard:
    """What a request was answered."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._there = threading.Event()

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self._there.set()

    def code(self) -> str:
        assert self._there.wait(DEADLINE)
        [event] = self.events
        return event.code if isinstance(event, Failed) else "answered"


@contextmanager
def serving(inbox: Inbox, accept: Callable[[Request], None], steps: Steps) -> Iterator[None]:
    thread = threading.Thread(target=inbox.serve, args=(accept, steps))
    thread.start()
    try:
        yield
    finally:
        inbox.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_who_comes_while_it_rests_is_answered_at_once():
    inbox, heard = Inbox(), Heard()

    def accept(request: Request) -> None:
        request.emit(Tokenized(id=request.work.id, tokens=(), pieces=()))

    with serving(inbox, accept, Steps()):
        inbox.submit(work(1), heard.emit)
        assert heard.code() == "answered"


def test_cancelled_before_it_runs_it_ends_as_soon_as_it_does():
    inbox, steps, heard = Inbox(), Steps(), Heard()
    cancel = inbox.submit(work(1), heard.emit)
    cancel()
    cancel()
    with serving(inbox, steps.add, steps):
        assert heard.code() == "cancelled"


def test_cancelled_while_it_runs():
    inbox, steps, heard, other = Inbox(), Steps(), Heard(), Heard()
    with serving(inbox, steps.add, steps):
        inbox.submit(work(1), other.emit)
        cancel = inbox.submit(work(2), heard.emit)
        assert steps.went_on.wait(DEADLINE)
        cancel()
        assert heard.code() == "cancelled"
        assert other.events == []


def test_set_aside_it_comes_again():
    inbox, steps, heard = Inbox(), Steps(), Heard()
    aside: list[Callable[[], None]] = []
    away = threading.Event()

    def accept(request: Request) -> None:
        if aside:
            steps.add(request)
            return
        aside.append(inbox.set_aside(request))
        away.set()

    with serving(inbox, accept, steps):
        cancel = inbox.submit(work(1), heard.emit)
        assert away.wait(DEADLINE)
        cancel()
        aside[0]()
        assert heard.code() == "cancelled"


def test_a_worker_that_leaves_tells_everybody():
    inbox, steps = Inbox(), Steps()
    computed, waiting, away, late = Heard(), Heard(), Heard(), Heard()
    aside: list[Callable[[], None]] = []

    def accept(request: Request) -> None:
        if request.work.id == 1:
            steps.add(request)
        else:
            aside.append(inbox.set_aside(request))
            inbox.submit(work(3), waiting.emit)
            inbox.stop()

    with serving(inbox, accept, steps):
        inbox.submit(work(1), computed.emit)
        inbox.submit(work(2), away.emit)
        assert waiting.code() == "busy"
    assert computed.code() == "cancelled"
    aside[0]()
    assert away.code() == "busy"
    inbox.submit(work(4), late.emit)
    assert late.code() == "busy"


def test_stopping_interrupts_the_step_that_runs():
    inbox = Inbox()
    inbox.stop()  # before there is anything to interrupt
    interrupted = threading.Event()
    inbox.interrupt = interrupted.set
    inbox.stop()
    assert interrupted.is_set()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GenerationFailed("engine.empty_prompt"), "bad_request"),
        (GenerationFailed("engine.vectors_only", model="m"), "unsupported"),
        (GenerationFailed("engine.context_exceeded", tokens=2, limit=1), "context_exceeded"),
        (CApiError("no"), "bad_request"),
        (ZeroDivisionError(), "internal"),
        (MemoryError(), "bad_request"),
    ],
)
def test_a_request_that_cannot_be_accepted_ends_alone(error: Exception, code: str):
    inbox, steps, bad, good = Inbox(), Steps(), Heard(), Heard()

    def accept(request: Request) -> None:
        if request.work.id == 1:
            raise error
        request.emit(Tokenized(id=2, tokens=(), pieces=()))

    with serving(inbox, accept, steps):
        inbox.submit(work(1), bad.emit)
        inbox.submit(work(2), good.emit)
        assert (bad.code(), good.code()) == (code, "answered")


@pytest.mark.parametrize("broken", [ZeroDivisionError(), MemoryError()])
def test_a_step_that_breaks_ends_who_was_in_it_and_nobody_else(broken: Exception):
    inbox, steps, first, second = Inbox(), Steps(), Heard(), Heard()
    steps.broken = broken
    with serving(inbox, steps.add, steps):
        inbox.submit(work(1), first.emit)
        assert first.code() == "internal"
        cancel = inbox.submit(work(2), second.emit)
        cancel()
        assert second.code() == "cancelled"


def test_a_loop_that_breaks_still_tells_everybody():
    inbox, steps, heard = Inbox(), Steps(), Heard()

    def rest() -> float:
        inbox.submit(work(1), heard.emit)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        inbox.serve(steps.add, steps, rest=rest)
    assert heard.code() == "busy"
    assert inbox.stopping
