"""Mutated headers: whatever is done to the bytes, our own error or a header, soon and small."""

import os
import random
import resource
import struct
import sys
import time
import tracemalloc

import pytest

from llmchat.errors import ModelFileError
from llmchat.gguf import describe, kv_bytes, read_ranges
from tests.unit.gguf.crafted import gguf

SEED = int(os.environ.get("LLMCHAT_TORTURE_SEED", "20261"))
EXTREMES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
SPANS = (64, 2048, 40_960, 4_194_304)


def mutate(whole: bytes, lengths: list[int], draw: random.Random) -> bytes:
    """One of six changes within the first 64 B, 2 kB, 40 kB or 4 MB, or at a known length field."""
    data = bytearray(whole)
    span = min(draw.choice(SPANS), len(data))
    place = draw.choice(lengths) if draw.random() < 0.4 else draw.randrange(span)
    how = draw.randrange(6)
    if how == 0:
        data[place] ^= 1 << draw.randrange(8)
    elif how == 1:
        data[place : place + 8] = draw.randbytes(8)
    elif how == 2:
        data[place : place + 8] = struct.pack("<Q", draw.choice(EXTREMES))
    elif how == 3:
        data[place : place + 16] = bytes(16)
    elif how == 4:
        data[place : place + 16] = b"\xff" * 16
    else:
        del data[draw.randrange(span) :]
    return bytes(data)


def fields(whole: bytes) -> list[int]:
    """Places of what looks like a length: eight bytes of a small number."""
    places = range(8, len(whole) - 8)
    return [n for n in places if 0 < whole[n] < 200 and whole[n + 1 : n + 8] == bytes(7)][:2000]


def read(data: bytes) -> bool:
    """Whether it is a model, one tensor or more; all but a header or our own error is raised."""

    def fetch(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    try:
        header = read_ranges(fetch, len(data), "m.gguf")
    except ModelFileError as error:
        return not error.sentence
    describe(header)
    kv_bytes(header, 4096)
    return bool(header.tensors)


def attack(whole: bytes, count: int) -> tuple[int, list[float]]:
    """How many were still models, and this thread's seconds of every try, sorted."""
    sys.stdout.write(f"LLMCHAT_TORTURE_SEED={SEED}\n")
    draw = random.Random(SEED)
    lengths = fields(whole)
    good = 0
    times: list[float] = []
    for _ in range(count):
        data = mutate(whole, lengths, draw)
        began = time.thread_time()
        good += read(data)
        times.append(time.thread_time() - began)
    times.sort()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(
        f"C2: {count:,} mutations, {good:,} still a model, 0 other errors; "
        f"slowest {times[-1] * 1000:.0f} ms, process at most {peak} MB\n"
    )
    return good, times


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.torture)])
def test_mutations_of_a_crafted_header(count):
    good, times = attack(gguf(), count)
    assert 0 < good < count
    # The last few may have met the garbage collector.
    assert times[-5] < 0.05


@pytest.mark.model
@pytest.mark.parametrize("count", [100, pytest.param(20_000, marks=pytest.mark.torture)])
def test_mutations_of_the_starter(starter, count):
    with starter.open("rb") as file:
        # Its header and no weights: a mutation ends as incomplete, or before, unless the count of
        # tensors became 0 (a header of words alone, as vocabulary files are).
        whole = file.read(1_785_664)
    good, times = attack(whole, count)
    assert good == 0
    assert times[len(times) // 2] < 0.05


def test_memory_stays_small():
    whole = gguf({"tokenizer.ggml.tokens": [f"token{n}" for n in range(100_000)]})
    draw = random.Random(SEED)
    lengths = fields(whole[:4096])
    tracemalloc.start()
    try:
        for _ in range(20):
            data = mutate(whole, lengths, draw)
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            read(data)
            assert tracemalloc.get_traced_memory()[1] - before < 64 << 20
    finally:
        tracemalloc.stop()
