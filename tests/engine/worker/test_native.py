"""What stands between us and llama.cpp's aborts, and what it tells us: batches, logs, sizes."""

import ctypes
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as lib

from llmchat.engine.backend import Verdict
from llmchat.engine.placing import Sizes
from llmchat.engine.protocol import Facts, Loading, Plan
from llmchat.engine.worker import sizes
from llmchat.engine.worker.capi import ABORTED, OK, Batch, CApiError, Context
from llmchat.engine.worker.devices import find_devices
from llmchat.engine.worker.loader import ContextParams, ModelParams, open_context, open_model
from llmchat.engine.worker.log import Level, LogRing
from llmchat.engine.worker.loop import LlamaBackend
from llmchat.engine.worker.measure import Meter
from llmchat.engine.worker.ram import free_ram
from llmchat.errors import EngineError
from llmchat.values import ModelFile, Wants
from tests.engine.worker.driver import Driver

SMALL = ContextParams(n_ctx=512, n_seq_max=4, n_batch=64, n_ubatch=64)


def test_a_batch_refuses_more_rows_than_n_batch():
    batch = Batch(4)
    batch.add([1, 2, 3], 0, 0, output=False)
    with pytest.raises(CApiError):
        batch.add([4, 5], 3, 0, output=True)
    with pytest.raises(CApiError):
        batch.add([], 3, 0, output=True)
    assert batch.add([4], 3, 1, output=True) == 3
    struct = batch.struct
    assert [struct.token[row] for row in range(4)] == [1, 2, 3, 4]
    assert [struct.pos[row] for row in range(4)] == [0, 1, 2, 3]
    assert [struct.seq_id[row][0] for row in range(4)] == [0, 0, 0, 1]
    assert [batch.has_output(row) for row in range(5)] == [False, False, False, True, False]


def test_log_lines_have_their_real_levels_and_continue():
    ring = LogRing(echo=Level.CONT)
    ring._on_log(Level.INFO, b"loading ", None)
    ring._on_log(Level.CONT, b"done\n", None)
    ring._on_log(Level.ERROR, b"llama_model_load: error loading model: bad \xff magic\n", None)
    ring._on_log(Level.ERROR, b"failed to load model\n", None)
    assert ring.reason() == "bad \ufffd magic"
    assert ring.last(1) == ("failed to load model",)


@pytest.fixture
def log() -> LogRing:
    ring = LogRing(echo=Level.CONT)
    ring.install()
    return ring


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "read"),
        (b"this is no model at all, only text " * 10, "magic"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, ""),
    ],
)
def test_why_a_file_does_not_load_is_one_sentence(tmp_path: Path, log: LogRing, content, words):
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(EngineError) as caught:
        open_model([str(path)], ModelParams(), log)
    assert words in str(caught.value).lower()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > 40


@pytest.mark.model
def test_a_truncated_model_says_so(tmp_path: Path, starter: Path, log: LogRing):
    path = tmp_path / "cut.gguf"
    path.write_bytes(starter.read_bytes()[: 20 << 20])
    with pytest.raises(EngineError) as caught:
        Driver(path, Wants(n_ctx=256))
    assert caught.value.key == "gguf.incomplete"  # the header's reader refuses it first
    log.install()  # the driver's own had taken its place
    with pytest.raises(EngineError) as caught:
        open_model([str(path)], ModelParams(), log)
    assert caught.value.key == "engine.model_unreadable"
    assert "no reason" not in str(caught.value)


@pytest.mark.model
def test_a_load_can_be_stopped_and_refused(starter: Path):
    model = ModelFile(name="x", path=str(starter), identity="0" * 64, size=1)

    def load(proceed: bool, stop: bool) -> Facts:
        backend = LlamaBackend()

        def progress(loading: Loading) -> None:
            if stop and loading.fraction > 0.3:
                backend.stop()

        def ask(plan: Plan) -> Verdict:
            assert plan.needs["CPU"] > 90 << 20
            return Verdict.GO if proceed else Verdict.STOP

        return backend.load(model, Wants(n_ctx=256), progress=progress, proceed=ask)

    for proceed, stop in ((False, False), (True, True)):
        with pytest.raises(EngineError) as caught:
            load(proceed, stop)
        assert caught.value.key == "engine.load_stopped"


@pytest.mark.model
def test_sizes_measured_without_memory_are_the_real_ones(starter: Path, log: LogRing):
    params = ModelParams(n_gpu_layers=0)
    with Meter([str(starter)], log) as meter:
        measured = meter.measure(params, SMALL)
        assert sizes.plausible(measured, int(lib.llama_model_size(meter.model)))
        guessed = meter._estimate(params, SMALL, int(lib.llama_model_size(meter.model)))
    model = open_model([str(starter)], params, log)
    try:
        context = open_context(model, SMALL, log)
        real = sizes.breakdown(context)
        lib.llama_free(context)
    finally:
        lib.llama_model_free(model)
    assert real == measured
    # The formula is a fall-back: KV exactly, the rest roughly.
    assert guessed["CPU"].context == measured["CPU"].context
    assert guessed["CPU"].total < 3 * measured["CPU"].total


def test_an_implausible_breakdown_is_not_believed():
    assert not sizes.plausible({"CPU": Sizes(model=1 << 50)}, 90 << 20)
    assert not sizes.plausible({}, 1)
    assert not sizes.plausible(None, 1)


@pytest.mark.model
def test_a_context_that_ram_cannot_hold_is_refused_with_numbers(starter: Path):
    with pytest.raises(EngineError) as caught:
        Driver(starter, Wants(n_ctx=10_000_000))
    assert caught.value.key == "engine.does_not_fit"


@pytest.mark.model
def test_a_cache_type_that_needs_flash_attention_is_a_sentence(starter: Path):
    with pytest.raises(EngineError) as caught:
        Driver(starter, Wants(n_ctx=256, cache_type_v="q8_0", flash_attn="off"))
    assert caught.value.key == "engine.context_failed"


@pytest.mark.model
def test_a_device_that_is_not_there_is_named(starter: Path):
    with pytest.raises(EngineError) as caught:
        Driver(starter, Wants(n_ctx=256, devices=("CUDA9",)))
    assert "CUDA9" in str(caught.value)


def test_the_cpu_is_listed_with_what_is_free():
    cpu = next(item.device for item in find_devices() if item.device.type == "cpu")
    assert 0 < cpu.free <= cpu.total
    assert free_ram() > 0


@pytest.fixture(scope="module")
def native(starter: Path):
    ring = LogRing(echo=Level.CONT)
    ring.install()
    model = open_model([str(starter)], ModelParams(n_gpu_layers=0), ring)
    params = ContextParams(n_ctx=2048, n_seq_max=4, n_batch=2048, n_ubatch=512)
    context = Context(open_context(model, params, ring), 49152, 2048)
    yield context
    context.close()
    context.close()
    lib.llama_model_free(model)


@pytest.mark.model
def test_a_row_without_logits_is_never_sampled(native: Context):
    native.batch.clear()
    native.batch.add([1, 2, 3], 0, 0, output=True)
    assert native.decode() == OK
    assert np.isfinite(native.logits(2)).all()
    for row in (0, 1, 3, -1):
        with pytest.raises(CApiError):
            native.logits(row)
    native.clear_memory()


@pytest.mark.model
def test_a_copy_beyond_the_last_sequence_is_refused(native: Context):
    for target in (4, 99, -1):
        with pytest.raises(CApiError):
            native.seq_cp(0, target, 1)


@pytest.mark.model
def test_the_flag_stops_a_decode_without_any_python_in_the_way(native: Context):
    native.batch.clear()
    native.batch.add([5] * 2000, 0, 0, output=True)
    native.abort(False)
    timer = threading.Timer(0.2, native.abort)
    timer.start()
    started = time.perf_counter()
    assert native.decode() == ABORTED
    assert time.perf_counter() - started < 3
    timer.join()
    native.abort(False)
    native.clear_memory()
    native.batch.clear()
    native.batch.add([5], 0, 0, output=True)
    assert native.decode() == OK
    native.clear_memory()


@pytest.mark.model
def test_a_state_comes_back_bit_for_bit(native: Context):
    tokens = list(range(100, 140))
    native.batch.clear()
    row = native.batch.add(tokens, 0, 0, output=True)
    assert native.decode() == OK
    kept = native.state(0)
    assert kept is not None
    fresh = _next(native, 0)
    assert native.seq_rm(0)
    assert native.restore(2, kept)
    assert native.pos_max(2) == len(tokens) - 1
    assert np.array_equal(_next(native, 2), fresh)
    assert not native.restore(1, kept[: kept.size // 2].copy())
    assert row == 39
    native.clear_memory()


def _next(context: Context, seq: int) -> np.ndarray:
    context.batch.clear()
    row = context.batch.add([7], 40, seq, output=True)
    assert context.decode() == OK
    return context.logits(row).copy()


def test_null_is_falsy_and_never_none():
    """Why every pointer is tested with bool()."""
    null = ctypes.POINTER(ctypes.c_float)()
    assert null is not None
    assert bool(null) is False
    with pytest.raises(CApiError):
        Context(null, 1, 1)
