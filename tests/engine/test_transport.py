"""Loopback TCP: both sides prove that they know the key, and a reused port learns nothing."""

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.engine.assignment import Limits
from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.protocol import StatusRequest, encode
from llmchat.engine.shell import connections
from llmchat.engine.transport import Address, Challenge, listen, proof, read_address
from llmchat.values import ModelFile, Wants
from tests.engine.asking import chat, events, text, until
from tests.engine.conftest import MakeEngine, workers_of


@pytest.fixture(autouse=True)
def tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCHAT_TRANSPORT", "tcp")


def address_of(engine: LocalEngine, model: ModelFile) -> Address:
    path = engine.registry.socket_path(engine.name(model))
    found = read_address(path)
    assert found is not None
    return found


def talk(port: int, *said: bytes) -> bytes:
    """Everything that a worker answers to bytes, until it closes."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        for piece in said:
            sock.sendall(piece)
        with contextlib.suppress(ConnectionError):
            while piece := sock.recv(4096):
                got += piece
    return got


async def test_a_worker_is_started_shared_listed_and_stopped(
    make_engine: MakeEngine, model: ModelFile, home: Path
):
    first, second = make_engine(face="one", keep_alive=60), make_engine(face="two", keep_alive=60)
    sessions = [await engine.open(model, Wants()) for engine in (first, second)]
    assert text(await events(sessions[1], chat("hello"))).startswith("You said: **hello**")
    path = first.registry.socket_path(first.name(model))
    assert path.is_file()
    assert path.stat().st_mode & 0o777 == 0o600
    [status] = await first.live()
    assert len(status.clients) == 2
    assert await second.stop(status.pid)
    assert not path.exists()
    assert workers_of(home) == []


async def test_who_does_not_know_the_key_gets_nothing(make_engine: MakeEngine, model: ModelFile):
    engine = make_engine(limits=Limits(challenge=0.3))
    session = await engine.open(model, Wants())
    port = address_of(engine, model).port
    request = encode(StatusRequest(id=1))
    # A worker says 64 bytes that depend on the key, and not one more.
    assert len(talk(port, request.ljust(32, b"x"), bytes(32))) in (0, 64)
    assert len(talk(port, secrets.token_bytes(32), request.ljust(32, b"x"), request)) in (0, 64)
    assert len(talk(port, secrets.token_bytes(32))) == 64  # let go for want of a proof
    assert talk(port, b"") == b""
    assert text(await events(session, chat("unharmed"))).startswith("You said: **unharmed**")


def test_each_proof_is_good_once_and_for_one_side():
    key = secrets.token_bytes(32)
    ours = secrets.token_bytes(32)
    first, second = Challenge(key), Challenge(key)
    said = first.take(bytearray(ours))
    nonce, theirs = said[:32], said[32:]
    assert theirs == proof(key, b"worker", ours, nonce)
    second.take(bytearray(ours))
    good = proof(key, b"client", ours, nonce)
    for challenge, wrong in ((second, good), (second, theirs), (second, bytes(32))):
        with pytest.raises(PermissionError):
            challenge.take(bytearray(wrong))
    rest = bytearray(good + b"a request")
    assert first.take(rest) == b""
    assert first.passed
    assert rest == b"a request"


class Impostor:
    """Another program on the port of a worker that died."""

    def __init__(self, answers: bytes) -> None:
        self.heard = b""
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client:
                    client.settimeout(5)
                    client.sendall(self._answers)
                    with contextlib.suppress(OSError):
                        while piece := client.recv(4096):
                            self.heard += piece

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


SAID = {"silent": b"", "zeros": bytes(64), "http": b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64)}


@pytest.fixture(params=SAID)
def impostor(request: pytest.FixtureRequest) -> Iterator[Impostor]:
    found = Impostor(SAID[request.param])
    yield found
    found.close()


async def test_a_reused_port_learns_nothing(
    make_engine: MakeEngine,
    model: ModelFile,
    impostor: Impostor,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("llmchat.engine.client.dialing._PATIENCE", 0.3)
    engine = make_engine()
    engine.registry.prepare()
    path = engine.registry.socket_path(engine.name(model))
    listen(path, tcp=True).close()  # a worker that was, and is no more
    was = address_of(engine, model)
    path.write_text(path.read_text().replace(str(was.port), str(impostor.port)))
    session = await engine.open(model, Wants())  # it is not there: another one is started
    assert text(await events(session, chat("secret words"))).startswith("You said")
    assert address_of(engine, model).port != impostor.port
    impostor.close()
    assert len(impostor.heard) in (0, 32)  # random bytes, and nothing more
    assert b"hello" not in impostor.heard
    assert was.secret not in impostor.heard


@pytest.mark.parametrize(
    "content", ["", "{", '{"port": 1}', '{"port": 1, "key": "zz"}', '{"port": 1, "key": "00"}']
)
def test_a_file_that_is_no_address(tmp_path: Path, content: str):
    path = tmp_path / "name.sock"
    path.write_text(content)
    path.chmod(0o600)
    assert read_address(path) is None


def test_a_file_that_others_may_read_or_that_is_a_link_is_not_trusted(tmp_path: Path):
    path = tmp_path / "name.sock"
    listen(path, tcp=True).close()
    assert read_address(path) is not None
    link = tmp_path / "link.sock"
    link.symlink_to(path)
    assert read_address(link) is None
    path.chmod(0o644)
    assert read_address(path) is None
    assert read_address(tmp_path / "none.sock") is None


def test_a_unix_socket_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert connections.own_uid(ours)
        monkeypatch.setattr("os.getuid", lambda: os.geteuid() + 1)
        assert not connections.own_uid(ours)


async def test_everybody_finds_it_when_the_folder_is_gone(
    make_engine: MakeEngine, model: ModelFile, home: Path
):
    engine = make_engine(keep_alive=60, limits=Limits(socket_check=0.2))
    await (await engine.open(model, Wants())).aclose()
    engine.registry.socket_path(engine.name(model)).unlink()
    await until(lambda: not workers_of(home))
