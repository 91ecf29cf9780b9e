"""Upgrades: a worker of another version is listed and stopped through the frozen JSON frames.

The other worker is no code of ours: a script that knows nothing but the frames, byte for byte.
"""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from llmchat.paths import Places, ensure_private
from tests.engine.asking import until
from tests.engine.conftest import MakeEngine

OTHER = r"""
import fcntl, json, os, socket, struct, sys
run, name, busy = sys.argv[1], sys.argv[2], sys.argv[3] == "busy"
lock = open(f"{run}/{name}.lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
path = f"{run}/{name}.sock"
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
print("ready", flush=True)
while True:
    client, _ = listener.accept()
    with client:
        while len(header := client.recv(4)) == 4:
            body = json.loads(client.recv(struct.unpack(">I", header)[0]))
            answer = {"id": body["id"]}
            if body["type"] == "status":
                answer |= {"type": "worker_status", "pid": os.getpid(), "llmchat": "9.9.9",
                           "model": "from:afar", "state": "busy" if busy else "idle",
                           "something_new": {"nobody": ["knows"]}}
            elif busy and body.get("if_idle"):
                answer |= {"type": "failed", "code": "busy", "message": "Not now.", "new": 1}
            else:
                answer |= {"type": "done", "how": "gladly"}
            data = json.dumps(answer).encode()
            client.sendall(struct.pack(">I", len(data)) + data)
            if answer["type"] == "done":
                os.unlink(path)
                sys.exit(0)
"""


@pytest.fixture(params=["idle", "busy"])
def state(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def other(places: Places, state: str) -> "Iterator[subprocess.Popen[str]]":
    ensure_private(places.run)
    command = [sys.executable, "-c", OTHER, str(places.run), "f" * 16, state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


async def test_a_worker_of_another_version(
    make_engine: MakeEngine, other: "subprocess.Popen[str]", state: str
):
    engine = make_engine()
    [status] = await engine.live()
    assert (status.pid, status.llmchat, status.state) == (other.pid, "9.9.9", state)
    assert await engine.stop(other.pid) == (state == "idle")
    if state == "busy":
        assert await engine.stop(other.pid, force=True)
    await until(lambda: other.poll() == 0)
    assert await engine.live() == []
