"""The rooms of the scripted worker, each without a process around it."""

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmchat.engine.backend import Verdict
from llmchat.engine.protocol import Event, Failed, Finished, Generate, Plan, RawText, Tokenize
from llmchat.engine.scripted.device import SharedDevice
from llmchat.engine.scripted.dying import Fate
from llmchat.engine.scripted.job import Job
from llmchat.engine.scripted.placing import FREE, MIB, place
from llmchat.engine.scripted.reading import N_VOCAB, number, tokens_of
from llmchat.engine.scripted.script import Script, parse
from llmchat.engine.scripted.writing import Writer
from llmchat.errors import EngineError

ASKED = RawText(text="two words")


@given(st.text())
def test_tokens_are_the_text_and_have_numbers_of_the_vocabulary(text: str):
    pieces = tokens_of(text)
    assert "".join(pieces) == text
    assert all(0 <= number(piece) < N_VOCAB for piece in pieces)


def job_of(work: Generate | Tokenize, stopping: threading.Event | None = None):
    events: list[Event] = []
    return Job(work, events.append, stopping or threading.Event()), events


def write(job: Job, work: Generate, script: Script, *, n_ctx: int = 100) -> bool:
    fate = Fate(script, None)
    return Writer(
        job, work, "two words", script, fate=fate, n_ctx=n_ctx, on_token=lambda: None
    ).run()


def test_a_reply_that_nobody_wants_ends_with_its_first_token():
    work = Generate(id=1, prompt=ASKED, n=2)
    job, events = job_of(work)
    job.cancel()
    assert write(job, work, parse("say=a b c;rate=0"))
    reasons = [event.reason for event in events if isinstance(event, Finished)]
    assert reasons == ["cancelled", "cancelled"]


def test_a_deaf_script_goes_on_although_nobody_wants_it():
    work = Generate(id=1, prompt=ASKED)
    job, events = job_of(work)
    job.cancel()
    assert write(job, work, parse("say=a b c;rate=0;deaf=true"))
    (end,) = [event for event in events if isinstance(event, Finished)]
    assert end.reason == "stop"
    assert end.usage.completion_tokens == 3


def test_a_prompt_that_does_not_fit_is_refused_before_it_is_read():
    work = Generate(id=1, prompt=ASKED)
    job, events = job_of(work)
    assert not write(job, work, Script(), n_ctx=2)
    (failed,) = events
    assert isinstance(failed, Failed)
    assert failed.code == "context_exceeded"


def test_a_worker_that_leaves_ends_what_waits():
    stopping = threading.Event()
    stopping.set()
    job, events = job_of(Tokenize(id=3, text="a"), stopping)
    assert job.unwanted
    assert job.pause(60, deaf=False)
    job.end()
    (failed,) = events
    assert isinstance(failed, Failed)
    assert failed.code == "not_ready"


def test_without_a_device_there_is_always_room():
    plans: list[Plan] = []
    verdicts = iter([Verdict.AGAIN, Verdict.GO])

    def proceed(plan: Plan) -> Verdict:
        plans.append(plan)
        return next(verdicts)

    assert place(Script(), proceed, lambda _seconds: None).memory == {"CPU": 64 * MIB}
    assert [plan.short for plan in plans] == [{}, {}]
    assert plans[0].devices[0].free == FREE


def test_a_device_is_taken_by_the_one_that_goes_on_and_a_full_one_refuses(tmp_path: Path):
    script = Script(device=str(tmp_path), total=1000, needs=600)
    shorts: list[dict[str, int]] = []

    def proceed(plan: Plan) -> Verdict:
        shorts.append(dict(plan.short))
        return Verdict.GO

    place(script, proceed, lambda _seconds: None)
    with pytest.raises(EngineError):
        place(script, proceed, lambda _seconds: None)
    assert shorts == [{}, {"SIM0": 200 * MIB}]


def test_who_gives_a_load_up_takes_nothing(tmp_path: Path):
    script = Script(device=str(tmp_path), total=1000)
    with pytest.raises(EngineError):
        place(script, lambda _plan: Verdict.STOP, lambda _seconds: None)
    assert SharedDevice(tmp_path, 1000, 0.0).free() == 1000
