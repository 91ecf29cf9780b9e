"""What ends llama.cpp's process if it gets through, as far as a user reaches it.

Load settings are tried one after another in a process of their own, requests against one real
worker: each is done or refused in a sentence, and nothing dies.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmchat.engine.protocol import (
    Constraint,
    Generate,
    RawText,
    RawTokens,
)
from llmchat.errors import EngineError, GenerationFailed, WorkerDied
from llmchat.values import ModelFile, Sampling, Wants
from tests.engine.asking import chat, events, finished
from tests.engine.conftest import MakeEngine

pytestmark = pytest.mark.model

TRY = r"""
import json, sys
import msgspec
from llmchat.engine.backend import Verdict
from llmchat.engine.worker.loading import Audience
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.opening import open_everything
from llmchat.errors import LlmchatError
from llmchat.values import ModelFile, Wants

model = ModelFile(name="m", path=sys.argv[1], identity="0" * 64, size=1)
log = LogRing()
log.install()
audience = Audience(lambda _: None, lambda _: Verdict.GO, lambda: False)
for line in sys.stdin:
    try:
        opened = open_everything(model, msgspec.json.decode(line, type=Wants), log, audience)
        said = f"n_ctx {opened.facts.n_ctx}"
        opened.loaded.close()
    except LlmchatError as error:
        said = error.sentence
    print(json.dumps(said), flush=True)
"""

HOSTILE_WANTS: list[dict[str, Any]] = [
    {"n_ctx": 1},
    {"n_ctx": 2**24},
    {"n_ctx": 2**40},
    {"n_batch": 1, "n_ubatch": 2**31},
    {"n_batch": 2**31},
    {"n_threads": 100_000},
    {"n_gpu_layers": 10**9},
    {"n_gpu_layers": -5},
    {"n_cpu_moe": 10**6},
    {"main_gpu": 99, "split_mode": "row"},
    {"tensor_split": [0.0] * 500},
    {"tensor_split": [-1.0, 1e300]},
    {"devices": ["nothing"]},
    {"cache_type_v": "q8_0", "flash_attn": "off"},
    {"cache_type_k": "q4_0", "cache_type_v": "q4_1", "flash_attn": "on"},
    {"cache_type_k": "iq4_nl", "cache_type_v": "f32"},
    {"cache_type_k": "q5_1", "cache_type_v": "bf16", "flash_attn": "auto"},
    {"use_mmap": False, "use_mlock": True},
]


def test_no_load_setting_ends_the_process(starter: Path):
    lines = [json.dumps({"n_ctx": 256} | wants) for wants in HOSTILE_WANTS]
    done = subprocess.run(
        [sys.executable, "-c", TRY, str(starter)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=150,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    after = HOSTILE_WANTS[len(said)] if len(said) < len(HOSTILE_WANTS) else None
    assert (done.returncode, after) == (0, None), done.stderr[-2000:]
    assert all(words and "\n" not in words for words in said)
    told = dict(zip(map(str, HOSTILE_WANTS), said, strict=True))
    for wants in ({"n_ctx": 2**40}, {"n_batch": 2**31}, {"tensor_split": [-1.0, 1e300]}):
        assert "cannot be" in told[str(wants)]
    assert "of memory" in told[str({"n_ctx": 2**24})]
    assert "no device nothing" in told[str({"devices": ["nothing"]})]
    # llama.cpp has its reason for this one in its log alone.
    assert "quantized" in told[str({"cache_type_v": "q8_0", "flash_attn": "off"})].lower()


def hostile_requests() -> list[Generate]:
    """What the wire can carry and no face of ours sends."""
    x = RawText(text="x")

    def sampled(**given: Any) -> Generate:
        return Generate(prompt=x, sampling=Sampling(**given), max_tokens=2)

    return [
        *(Generate(prompt=RawTokens(tokens=tokens), max_tokens=2)
          for tokens in ((-1,), (2**31,), (10**9,), (), (1,) * 5000)),
        Generate(prompt=RawText(text=""), max_tokens=2),
        Generate(prompt=RawText(text="\x00\ufffe" * 50, parse_special=True), max_tokens=2),
        Generate(prompt=RawText(text="word " * 200_000), max_tokens=2),
        *(Generate(prompt=x, max_tokens=limit) for limit in (0, -1, -(2**31))),
        *(Generate(prompt=x, n=n, max_tokens=1) for n in (64, 65, 300)),
        *(Generate(prompt=x, top_logprobs=k, max_tokens=2) for k in (-1, 10**6)),
        Generate(prompt=x, forced=(-1, 10**9), max_tokens=2),
        Generate(prompt=x, forced="word " * 100_000, max_tokens=2),
        Generate(prompt=x, stop=("",) * 1000 + ("x" * 100_000,), max_tokens=2),
        Generate(prompt=x, priority=2**62, max_tokens=2),
        *(sampled(temperature=value) for value in (math.nan, math.inf, -math.inf, 1e300, -1.0)),
        *(sampled(top_p=value, min_p=value) for value in (0.0, -1.0, 2.0, math.nan)),
        sampled(top_k=2**31),
        sampled(top_k=-(2**31)),
        sampled(repeat_penalty=0.0, repeat_last_n=2**31),
        sampled(repeat_last_n=-(2**31), dry_penalty_last_n=2**31, dry_multiplier=1.0),
        sampled(mirostat=3),
        sampled(mirostat=2, mirostat_tau=0.0, mirostat_eta=0.0),
        sampled(logit_bias={-1: 1.0, 10**9: 1.0}),
        sampled(logit_bias=dict.fromkeys(range(49152), -math.inf)),
        sampled(samplers=()),
        sampled(samplers=("grammar", "nonsense")),
        sampled(xtc_probability=1.0, xtc_threshold=0.0, typical_p=0.0, top_n_sigma=0.0),
        *(Generate(prompt=x, constraint=Constraint(kind="gbnf", text=text), max_tokens=2)
          for text in ("", "root ::= ", "root ::= root", 'root ::= "a" | (', "x" * 100_000,
                       'root ::= ("a"){1,1000000}')),
    ]  # fmt: skip


async def test_no_request_ends_the_worker(make_engine: MakeEngine, starter: Path):
    engine = make_engine(None)
    model = ModelFile(name="m", path=str(starter), identity="0" * 64, size=1)
    session = await engine.open(model, Wants(n_ctx=512))
    said: list[str] = []
    for number, request in enumerate(hostile_requests()):
        try:
            found = await events(session, request)
            assert len(finished(found)) == max(1, request.n)
        except GenerationFailed as refused:
            said.append(refused.sentence)
        except WorkerDied as died:
            pytest.fail(f"{number}: {str(request)[:300]} ended it: {died.last_lines}")
        except EngineError:
            assert session.alive
    assert all(sentence.strip() for sentence in said)
    assert len(finished(await events(session, chat("still there?", max_tokens=2)))) == 1
