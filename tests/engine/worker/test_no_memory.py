"""Python's own want of memory inside a worker: told to who asked, and the loop goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.engine.protocol import Generate, RawText
from llmchat.engine.worker import admission
from llmchat.engine.worker.sampling import Chain
from llmchat.errors import EngineError
from llmchat.text import say
from llmchat.values import Wants
from tests.engine.worker.driver import Driver

pytestmark = pytest.mark.model


@pytest.fixture
def driver(starter: Path) -> Iterator[Driver]:
    """The starter in this process."""
    driven = Driver(starter, Wants(n_ctx=256))
    yield driven
    driven.close()


def hello(n: int = 1) -> Generate:
    return Generate(prompt=RawText(text="Hello"), max_tokens=2, n=n)


def test_while_a_request_is_let_in_it_is_told_and_the_next_one_runs(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
):
    made: list[int] = []

    def third_fails(*args: object, **named: object) -> Chain:
        made.append(1)
        if len(made) == 3:
            raise MemoryError
        return Chain(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(admission, "Chain", third_fails)
    assert driver.ask(hello(n=4)).wait().failed().message == say("engine.no_memory")
    assert driver.ask(hello(n=4)).wait().finished(3).reason
    assert driver.backend.status().n_ctx_used < 256


def test_while_it_loads_it_is_a_reason(starter: Path, monkeypatch: pytest.MonkeyPatch):
    def no_room(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("llmchat.engine.worker.opening._table", no_room)
    with pytest.raises(EngineError) as refused:
        Driver(starter, Wants(n_ctx=256))
    assert refused.value.key == "engine.no_memory"
