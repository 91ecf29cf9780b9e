"""A mixture of experts, written tiny: placed, loaded with its experts on the CPU, answering."""

from pathlib import Path

import pytest

from llmchat.engine.protocol import Generate, RawTokens
from llmchat.values import Sampling, Wants
from tests.engine.worker.driver import Driver
from tests.written import Written, write

TINY = Written("qwen3moe", 2, 64, 128, 4, 2, 32, vocab=512, experts=4, used=2, ff_expert=32)


@pytest.mark.parametrize("n_cpu_moe", [None, 1, 2])
def test_experts_are_loaded_where_they_were_sent(tmp_path: Path, n_cpu_moe):
    path = write(tmp_path, "moe", TINY)
    driver = Driver(path, Wants(n_ctx=256, n_threads=1, n_cpu_moe=n_cpu_moe))
    try:
        assert driver.facts.placement.n_layers == 3
        assert driver.facts.placement.n_gpu_layers == 0
        assert "all 3 layers on the CPU" in driver.facts.placement.explanation
        request = Generate(
            prompt=RawTokens(tokens=(5, 6, 7)),
            sampling=Sampling(temperature=0.0),
            max_tokens=3,
            ignore_eos=True,
        )
        assert driver.ask(request).wait().finished().usage.completion_tokens == 3
    finally:
        driver.close()
