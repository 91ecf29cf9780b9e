"""How often and how much is written while a reply streams, whatever its length and pace."""

import itertools
import sys
import time

from llmchat.core.turn import CHECKPOINT_SECONDS
from tests.core.conftest import OpenRuntime


async def test_one_write_a_second_none_per_token_and_small_ones(open_runtime: OpenRuntime):
    rt = await open_runtime("rate=3000;n_ctx=1000000")
    chat = await rt.chats.create()
    store = rt._storage.store
    commits: list[float] = []
    rows: list[int] = []

    def trace(_cursor: object, sql: str, bindings: object) -> bool:
        if sql == "COMMIT":
            commits.append(time.monotonic())
        elif "INSERT INTO piece" in sql:
            assert isinstance(bindings, tuple)
            rows.append(len(str(bindings[1]).encode()))
        return True

    turn = await rt.chats.send(chat.id, "go on\n#!words=10000")
    began = time.monotonic()
    await rt._storage.call(setattr, store.db._connection, "exec_trace", trace)
    (reply,) = await turn.wait()
    taken = time.monotonic() - began
    await rt._storage.call(setattr, store.db._connection, "exec_trace", None)
    assert len(reply.text.split()) == 10_000
    checkpoints = commits[:-1]  # the last one is the reply's end
    assert checkpoints, "the reply was over before its first checkpoint"
    assert len(checkpoints) <= taken / CHECKPOINT_SECONDS + 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(checkpoints)]
    assert all(gap >= CHECKPOINT_SECONDS for gap in gaps)
    assert max(rows) <= 16 * 1024
    sys.stdout.write(
        f"10,000 words in {taken:.1f} s: {len(checkpoints)} checkpoints,"
        f" rows of at most {max(rows):,} bytes\n"
    )
