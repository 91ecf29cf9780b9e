"""The formula against what llama.cpp lays out: within 5 % of the whole, for models of many shapes.

llama.cpp's own numbers come from `no_alloc`, which `test_native.py` holds to a real load.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.core.estimate import Estimate
from llmchat.engine.placing import Try
from llmchat.engine.worker.fit import context_params, model_params
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.measure import Meter
from llmchat.gguf import read_header, shape_of
from llmchat.values import CacheType, Wants
from tests.engine.worker.gemma import gemma
from tests.written import SHAPES, write
from tests.written_kinds import KINDS, write_kind

CONTEXTS = (2048, 8192, 32_768)
TYPES: tuple[CacheType, ...] = ("f16", "q8_0")
CLOSE = 0.05


@pytest.fixture
def log() -> LogRing:
    ring = LogRing()
    ring.install()
    return ring


def compare(path: Path, log: LogRing, wants: list[Wants]) -> Iterator[tuple[Wants, float, float]]:
    """Each want with how far the whole is off, and weights and cache alone."""
    shape = shape_of([read_header(path)])
    with Meter([str(path)], log) as meter:
        for want in wants:
            estimate = Estimate(shape, want, [])
            choice = Try(n_gpu_layers=0, n_cpu_moe=0, n_ctx=want.n_ctx or 0, pool=1)
            real = meter.measure(
                model_params(choice, want, [], []), context_params(choice, want, estimate.model)
            )
            [(name, size)] = real.items()
            said = estimate(choice)[name]
            fixed = (said.model + said.context) / (size.model + size.context)
            yield want, said.total / size.total - 1, fixed - 1


def every_want() -> list[Wants]:
    return [
        Wants(n_ctx=n_ctx, cache_type_k=kind, cache_type_v=kind)
        for n_ctx in CONTEXTS
        for kind in TYPES
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_written_models(name: str, tmp_path: Path, log: LogRing):
    for want, whole, fixed in compare(write(tmp_path, name), log, every_want()):
        assert abs(whole) <= CLOSE, (want, whole)
        assert abs(fixed) < 0.001, (want, fixed)


@pytest.mark.parametrize("arch", KINDS)
def test_other_kinds(arch: str, tmp_path: Path, log: LogRing):
    for want, whole, fixed in compare(write_kind(tmp_path, arch), log, every_want()):
        assert abs(whole) <= CLOSE, (want, whole)
        assert abs(fixed) < 0.001, (want, fixed)


@pytest.mark.parametrize("name", ["llama-1b", "gemma3-4b"])
def test_without_flash_attention(name: str, tmp_path: Path, log: LogRing):
    wants = [Wants(n_ctx=n_ctx, flash_attn="off") for n_ctx in CONTEXTS]
    for want, whole, _ in compare(write(tmp_path, name), log, wants):
        assert abs(whole) <= CLOSE, (want, whole)


@pytest.mark.parametrize("ubatch", [128, 1024])
def test_other_batches_and_the_whole_window(ubatch: int, tmp_path: Path, log: LogRing):
    wants = [
        Wants(n_ctx=8192, n_batch=2048, n_ubatch=ubatch, swa_full=full) for full in (False, True)
    ]
    for want, whole, fixed in compare(write(tmp_path, "gemma3-4b"), log, wants):
        assert abs(whole) <= CLOSE, (want, whole)
        assert abs(fixed) < 0.001, (want, fixed)


@pytest.mark.model
def test_the_starter(starter: Path, log: LogRing):
    for want, whole, _ in compare(starter, log, every_want()):
        assert abs(whole) <= CLOSE, (want, whole)


@pytest.mark.model
def test_gemma(log: LogRing):
    for want, whole, _ in compare(gemma(), log, every_want()):
        assert abs(whole) <= CLOSE, (want, whole)
