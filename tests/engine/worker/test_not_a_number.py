"""Weights that are no numbers: found while loading when asked for, else said by the first reply."""

from pathlib import Path

import numpy as np
import pytest

from llmchat.engine.protocol import Generate, RawTokens
from llmchat.errors import EngineError
from llmchat.text import say
from llmchat.values import Sampling, Wants
from tests.engine.worker import tiny
from tests.engine.worker.driver import Driver


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = tiny.weights()
    weights["blk.1.ffn_down.weight"][:, 5] = np.nan
    return tiny.write_model(tmp_path_factory.mktemp("nan") / "damaged.gguf", weights)


def test_a_load_that_checks_names_the_tensor(damaged: Path):
    with pytest.raises(EngineError, match=r"blk\.1\.ffn_down\.weight"):
        Driver(damaged, Wants(n_ctx=256, n_threads=1, check_tensors=True))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_first_reply_says_it(damaged: Path, temperature: float):
    driver = Driver(damaged, Wants(n_ctx=256, n_threads=1))
    try:
        request = Generate(
            id=1,
            prompt=RawTokens(tokens=(5, 6, 7)),
            sampling=Sampling(temperature=temperature, seed=1),
            max_tokens=8,
        )
        failed = driver.ask(request).wait().failed()
        assert (failed.code, failed.message) == ("decode_failed", say("engine.not_a_number"))
    finally:
        driver.close()
