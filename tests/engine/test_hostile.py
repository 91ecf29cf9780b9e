"""Clients that send garbage, or do not read: the worker lives, and others notice nothing."""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from llmchat.engine.assignment import Limits
from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.protocol import Generate, Hello, Ping, decode_event, encode
from llmchat.values import ModelFile, Wants
from tests.engine.asking import chat, events, text, until
from tests.engine.conftest import MakeEngine

TAGS = ["generate", "cancel", "render", "count", "tokenize", "ping", "keep_alive", "proceed"]
HELLO = encode(Hello(client="raw", keep_alive=0))


@contextlib.contextmanager
def raw(path: Path) -> Iterator[socket.socket]:
    """A connection without a client."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        while True:
            try:
                sock.connect(str(path))
                break
            except BlockingIOError:  # the backlog is full: the system says so at once
                time.sleep(0.01)
        yield sock


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def receive(sock: socket.socket) -> bytes:
    """One frame's body; empty at the end."""
    data = b""
    size = 4
    while len(data) < size:
        try:
            piece = sock.recv(size - len(data))
        except ConnectionError:
            return b""
        if not piece:
            return b""
        data += piece
        if len(data) == 4 and size == 4:
            size += struct.unpack(">I", data)[0]
    return data[4:]


def hostile(rng: random.Random) -> bytes:
    """Bytes that no client of ours sends."""
    junk = rng.randbytes(rng.randint(0, 200))
    values: list[object] = [None, -1, 2**63, 1.5, "x", b"\xff", [], {}, junk, [[[]]], float("nan")]
    match rng.randint(0, 5):
        case 0:
            return junk
        case 1:
            return frame(junk)
        case 2:
            return struct.pack(">I", rng.randint(0, 2**32 - 1)) + junk
        case 3:
            keys = ["id", "prompt", "n", "target", "seconds", "text", "stop", "sampling"]
            fields = {key: rng.choice(values) for key in rng.sample(keys, 3)}
            return frame(msgspec.msgpack.encode({"type": rng.choice([*TAGS, "new"]), **fields}))
        case 4:
            return frame(b"{" + junk)
        case _:
            return frame(b"\x91" * rng.randint(1, 5000))


async def test_five_thousand_hostile_frames(engine: LocalEngine, model: ModelFile):
    session = await engine.open(model, Wants())
    path = engine.registry.socket_path(engine.name(model))
    rng = random.Random(20260101)

    def attack() -> None:
        for _ in range(1000):
            with raw(path) as sock, contextlib.suppress(ConnectionError):
                if rng.random() < 0.5:
                    sock.sendall(HELLO)
                for _ in range(5):
                    sock.sendall(hostile(rng))

    await asyncio.to_thread(attack)
    assert text(await events(session, chat("alive?"))).startswith("You said: **alive?**")


async def test_an_unknown_request_is_refused_by_its_id(engine: LocalEngine, model: ModelFile):
    session = await engine.open(model, Wants())
    path = engine.registry.socket_path(engine.name(model))

    def ask() -> list[object]:
        with raw(path) as sock:
            sock.sendall(HELLO)
            sock.sendall(frame(msgspec.msgpack.encode({"type": "from_the_future", "id": 7})))
            sock.sendall(encode(Ping(id=8)))
            return [decode_event(receive(sock)) for _ in range(4)]

    answers = await asyncio.to_thread(ask)
    [failed] = [event for event in answers if getattr(event, "id", 0) == 7]
    assert getattr(failed, "code", "") == "unknown_request"
    assert any(getattr(event, "id", 0) == 8 for event in answers)
    assert session.alive


async def test_the_frozen_frames_byte_for_byte(make_engine: MakeEngine, model: ModelFile):
    """What the first release sends, an upgraded worker must understand for ever."""
    engine = make_engine(keep_alive=60)
    session = await engine.open(model, Wants())
    path = engine.registry.socket_path(engine.name(model))

    def ask() -> list[bytes]:
        with raw(path) as sock:
            sock.sendall(frame(b'{"type":"hello","id":0,"version":1,"client":"old","pid":1}'))
            sock.sendall(frame(b'{"type":"status","id":3}'))
            found = [receive(sock) for _ in range(3)]
            sock.sendall(encode(Generate(id=9, prompt=chat("x\n#!words=100000;rate=100").prompt)))
            sock.sendall(frame(b'{"type":"shutdown","id":4,"if_idle":true}'))
            while b'"id":4' not in (answer := receive(sock)):
                pass
            sock.sendall(frame(b'{"type":"shutdown","id":5}'))
            while b'"id":5' not in (last := receive(sock)):
                pass
            while receive(sock):
                pass
            return [*found, answer, last]

    welcome, _ready, status, refused, done = await asyncio.to_thread(ask)
    assert msgspec.json.decode(welcome)["type"] == "welcome"
    assert msgspec.json.decode(status)["model"] == model.name
    busy = msgspec.json.decode(refused)
    assert (busy["type"], busy["id"], busy["code"]) == ("failed", 4, "busy")
    assert msgspec.json.decode(done) == {"type": "done", "id": 5}
    await until(lambda: not session.alive)


async def test_requests_that_cannot_be_are_refused(engine: LocalEngine, model: ModelFile):
    await engine.open(model, Wants())
    path = engine.registry.socket_path(engine.name(model))

    def ask() -> list[object]:
        with raw(path) as sock:
            sock.sendall(HELLO)
            good = chat("x\n#!words=1000;rate=100")
            for number, n in ((0, 1), (1, 0), (2, 1000), (3, 1), (3, 1)):
                sock.sendall(encode(Generate(id=number, prompt=good.prompt, n=n)))
            found: list[object] = []
            while len(found) < 4:
                event = decode_event(receive(sock))
                found += [event] if getattr(event, "code", "") else []
            return found

    failed = await asyncio.to_thread(ask)
    assert sorted(getattr(event, "id", -1) for event in failed) == [0, 1, 2, 3]


@pytest.mark.parametrize("limits", [Limits(outbox_bytes=200_000), Limits(unread=0.5)])
async def test_a_client_that_never_reads_is_let_go_and_its_request_cancelled(
    make_engine: MakeEngine, model: ModelFile, limits: Limits
):
    engine = make_engine("rate=0", limits=limits)
    session = await engine.open(model, Wants())
    path = engine.registry.socket_path(engine.name(model))
    with raw(path) as sock:
        sock.sendall(HELLO)
        endless = chat("x\n#!words=300000;rate=100000")
        sock.sendall(encode(Generate(id=1, prompt=endless.prompt, want_tokens=True)))
        # The scripted worker answers one request after another: ours comes when that is cancelled.
        async with asyncio.timeout(60):
            assert text(await events(session, chat("mine"))).startswith("You said: **mine**")
        async with asyncio.timeout(60):
            while (await session.status()).clients:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_slow_reader_gets_every_word_in_few_frames(engine: LocalEngine, model: ModelFile):
    await engine.open(model, Wants())
    path = engine.registry.socket_path(engine.name(model))

    def ask() -> tuple[str, int]:
        with raw(path) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(HELLO)
            sock.sendall(encode(Generate(id=1, prompt=chat("x\n#!words=50000;rate=0").prompt)))
            found, frames = "", 0
            while True:
                event = decode_event(receive(sock))
                frames += 1
                found += getattr(event, "text", "")
                if getattr(event, "reason", ""):
                    return found, frames

    found, frames = await asyncio.to_thread(ask)
    assert found == " ".join(f"word{number}" for number in range(50000))
    assert frames < 25000


async def test_a_client_that_goes_away_cancels_what_it_asked(engine: LocalEngine, model: ModelFile):
    session = await engine.open(model, Wants())
    path = engine.registry.socket_path(engine.name(model))
    with raw(path) as sock:
        sock.sendall(HELLO)
        sock.sendall(encode(Generate(id=1, prompt=chat("x\n#!words=100000;rate=50").prompt)))
        receive(sock)
        receive(sock)
    async with asyncio.timeout(60):
        assert text(await events(session, chat("mine"))).startswith("You said: **mine**")


async def test_ping_is_answered_while_the_loop_hangs(engine: LocalEngine, model: ModelFile):
    session = await engine.open(model, Wants())
    pid = (await session.status()).pid
    path = engine.registry.socket_path(engine.name(model))
    stream = session.generate(chat("x\n#!words=10;hang=read;prompt=100"))
    assert await anext(stream)  # type: ignore[truthy-bool]

    def ask() -> object:
        with raw(path) as sock:
            sock.sendall(HELLO + encode(Ping(id=5)))
            while getattr(event := decode_event(receive(sock)), "id", 0) != 5:
                pass
            return event

    pong = await asyncio.to_thread(ask)
    assert getattr(pong, "busy", False) is True
    assert await engine.stop(pid, force=True)
    await stream.aclose()
