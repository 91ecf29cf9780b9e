"""What core may rely on of every engine. Nothing here knows which worker answers."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.protocol import (
    ChatMessage,
    Delta,
    Finished,
    Generate,
    Messages,
    PromptProgress,
    Queued,
    RawText,
)
from llmchat.engine.session import Session
from llmchat.errors import EngineError, GenerationFailed, WorkerDied
from llmchat.values import ModelFile, Sampling, Wants
from tests.engine.asking import chat, events, finished, first_delta, text

GREEDY = Sampling(temperature=0, seed=1)
LONG = "Count from one to one thousand, every number on a line of its own."


def endless() -> Generate:
    """A reply that does not end by itself within a test. The last line is a scripted worker's."""
    return chat(f"{LONG}\n#!words=100000;rate=50", sampling=GREEDY, ignore_eos=True, max_tokens=700)


async def test_a_reply_is_progress_then_text_then_one_end(session: Session):
    found = await events(session, chat("Say hello.", sampling=GREEDY, max_tokens=8))
    assert all(isinstance(e, Queued | PromptProgress | Delta | Finished) for e in found)
    kinds = [type(event) for event in found if not isinstance(event, Queued)]
    assert kinds[0] is PromptProgress
    assert kinds[-1] is Finished
    assert kinds.count(Finished) == 1
    assert kinds == sorted(kinds, key=[PromptProgress, Delta, Finished].index)
    assert text(found)
    progress = [event for event in found if isinstance(event, PromptProgress)]
    assert progress[-1].done == progress[-1].total


async def test_usage_and_timings_add_up(session: Session):
    request = chat("Say hello.", sampling=GREEDY, max_tokens=5)
    started = time.monotonic()
    [end] = finished(await events(session, request))
    took = time.monotonic() - started
    usage = end.usage
    assert end.reason in ("stop", "length")
    assert usage.prompt_tokens == usage.from_memory + usage.from_disk + usage.read
    assert usage.prompt_tokens == (await session.count(request.prompt)).tokens
    assert 1 <= usage.completion_tokens <= 5
    assert 0 <= end.timings.first_token <= took
    assert 0 <= end.timings.generation <= took
    assert end.seed is not None


async def test_max_tokens_ends_with_length(session: Session):
    [end] = finished(await events(session, chat(LONG, sampling=GREEDY, max_tokens=3)))
    assert end.reason == "length"
    assert end.usage.completion_tokens == 3


async def test_the_same_request_gives_the_same_reply(session: Session):
    request = chat("Name three colours.", sampling=GREEDY, max_tokens=10)
    first, second = [text(await events(session, request)) for _ in range(2)]
    assert first == second


async def test_token_ids_come_with_deltas_when_wanted(session: Session):
    request = chat("Say hello.", sampling=GREEDY, max_tokens=6, want_tokens=True)
    found = await events(session, request)
    [end] = finished(found)
    tokens = [i.token for e in found if isinstance(e, Delta) for i in e.tokens]
    assert tokens[: end.usage.completion_tokens] == list(end.tokens)[: len(tokens)]
    assert len(end.tokens) >= 1
    assert end.vocab == session.facts.vocab


async def test_alternatives_have_their_own_choices_and_ends(session: Session):
    request = chat("Say hello.", n=2, sampling=Sampling(temperature=1.5, seed=3), max_tokens=12)
    found = await events(session, request)
    assert [end.choice for end in finished(found)] == [0, 1]
    assert text(found, 0) != text(found, 1)


async def test_several_requests_at_once_are_not_mixed(session: Session):
    # Forced beginnings, because a batch's neighbours may change a close call between two tokens.
    words = ["walrus", "teapot", "violin"]
    requests = [
        chat("Write a line.", sampling=GREEDY, max_tokens=12, forced=f"{word} {word} {word}")
        for word in words
    ]
    together = await asyncio.gather(*(events(session, request) for request in requests))
    assert len({found[0].id for found in together}) == 3
    for word, found in zip(words, together, strict=True):
        assert len(finished(found)) == 1
        assert {event.id for event in found} == {found[0].id}
        assert text(found).startswith(f"{word} {word} {word}")
        assert not any(other in text(found) for other in words if other != word)


async def test_closing_the_generator_cancels_at_once(session: Session):
    stream = session.generate(endless())
    await first_delta(stream)
    started = time.monotonic()
    await stream.aclose()
    assert time.monotonic() - started < 1.0
    async with asyncio.timeout(60):
        while (await session.status()).state == "busy":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert text(await events(session, chat("Say hello.", sampling=GREEDY, max_tokens=4)))


async def test_closing_before_the_first_event_cancels_too(session: Session):
    for _ in range(3):
        stream = session.generate(endless())
        pending = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        pending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pending
        await stream.aclose()
    async with asyncio.timeout(60):
        while (await session.status()).state == "busy":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_prompt_larger_than_the_context_is_this_requests_failure(session: Session):
    with pytest.raises(GenerationFailed) as failed:
        await events(session, chat("word " * 3000))
    assert failed.value.values["code"] == "context_exceeded"
    assert session.alive
    assert text(await events(session, chat("Say hello.", sampling=GREEDY, max_tokens=4)))


async def test_nothing_to_write_is_refused(session: Session):
    with pytest.raises(GenerationFailed):
        await events(session, chat("x", n=0))
    assert session.alive


async def test_counting_rendering_and_tokenizing_agree(session: Session):
    prompt = Messages(
        messages=(
            ChatMessage(role="system", content="Be brief."),
            ChatMessage(role="user", content="Two  words, and naïve ☕?"),
        )
    )
    counted, rendered = await session.count(prompt), await session.render(prompt)
    assert counted.tokens == len(rendered.tokens)
    assert len(counted.messages) == 2
    assert "Two  words, and naïve ☕?" in rendered.text
    tokenized = await session.tokenize("Two  words, and naïve ☕?")
    assert b"".join(tokenized.pieces).decode() == "Two  words, and naïve ☕?"
    assert len(tokenized.tokens) == len(tokenized.pieces)
    raw = await session.count(RawText(text="Two  words, and naïve ☕?"))
    assert raw.tokens >= len(tokenized.tokens)


async def test_the_facts_are_those_of_the_model(session: Session, model: ModelFile):
    facts = session.facts
    assert facts.model == model.name
    assert facts.identity == model.identity
    assert facts.n_ctx == 1024
    assert facts.pool >= facts.n_ctx
    assert "chat" in facts.capabilities
    assert facts.placement.explanation


async def test_status_says_who_and_what(session: Session, model: ModelFile, engine: LocalEngine):
    [status] = await engine.live()
    assert (status.model, status.path) == (model.name, model.path)
    assert status.state == "idle"
    assert status.clients == (f"test {os.getpid()}",)
    assert (await session.status()).clients == ()
    assert status.size > 0
    stream = session.generate(endless())
    async with contextlib.aclosing(stream):
        await first_delta(stream)
        assert (await session.status()).state == "busy"
        assert (await session.status()).idle_seconds == 0


async def test_a_death_reaches_every_waiter_within_half_a_second(
    session: Session, engine: LocalEngine, model: ModelFile
):
    pid = (await session.status()).pid
    streams = [session.generate(endless()) for _ in range(2)]
    await first_delta(streams[0])

    async def rest(stream) -> float:
        with pytest.raises(WorkerDied) as died:
            async for _ in stream:
                pass
        assert died.value.signal == "SIGKILL"
        return time.monotonic()

    waiting = [asyncio.create_task(rest(stream)) for stream in streams]
    await asyncio.sleep(0)
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert max(await asyncio.gather(*waiting)) - killed < 5
    assert not session.alive
    with pytest.raises(WorkerDied):
        await session.count(RawText(text="x"))
    again = await engine.open(model, Wants(n_ctx=1024))
    assert text(await events(again, chat("Say hello.", sampling=GREEDY, max_tokens=4)))


async def test_stopping_ends_what_runs(session: Session, engine: LocalEngine):
    pid = (await session.status()).pid
    stream = session.generate(endless())
    await first_delta(stream)
    assert not await engine.stop(pid)
    assert await engine.stop(pid, force=True)
    assert await engine.live() == []
    with contextlib.suppress(EngineError):
        ends = [event async for event in stream if isinstance(event, Finished)]
        assert [end.reason for end in ends] == ["cancelled"]
    assert not session.alive


async def test_a_closed_session_answers_nobody(session: Session):
    await session.aclose()
    with pytest.raises(EngineError):
        await session.count(RawText(text="x"))
    with pytest.raises(EngineError):
        await events(session, chat("x"))


NETWORK = ("tcp", "tcp6", "udp", "udp6", "raw")


async def test_a_worker_opens_no_network_socket(session: Session, kind: str):
    await events(session, chat("hello", max_tokens=4))
    process = Path(f"/proc/{(await session.status()).pid}")
    links = [str(path.readlink()) for path in process.joinpath("fd").iterdir()]
    ours = {link.removeprefix("socket:[").rstrip("]") for link in links if "socket" in link}
    listed = [
        line.split()
        for table in NETWORK
        for line in process.joinpath("net", table).read_text().splitlines()[1:]
    ]
    # The address is hexadecimal, the inode the tenth field: 0100007F is 127.0.0.1.
    addresses = {row[1].split(":")[0] for row in listed if len(row) > 9 and row[9] in ours}
    assert ours
    assert addresses == ({"0100007F"} if kind.endswith("tcp") else set())
