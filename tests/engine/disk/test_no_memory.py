"""A state for which there is no memory while it is written is left out; the next one is kept."""

from pathlib import Path

import pytest

from llmchat.engine.disk import Writer
from tests.engine.disk.states import conversation, shelf, snapshot

PATIENCE = 30.0


def test_the_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mine = shelf(tmp_path / "kv")
    put = mine.put
    refused: list[object] = []

    def once(*args: object, **named: object) -> bool:
        if not refused:
            refused.append(args)
            raise MemoryError
        return put(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(mine, "put", once)
    writer = Writer(mine)
    lost, kept = conversation(1, 600), conversation(2, 600)
    assert writer.offer(snapshot(lost))
    assert writer.offer(snapshot(kept))
    assert writer.wait(PATIENCE)
    assert writer.close(PATIENCE)
    assert refused
    assert mine.find((*lost, 1)) is None
    assert mine.find((*kept, 1)) is not None
