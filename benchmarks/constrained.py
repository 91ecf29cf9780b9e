"""A reply that obeys a JSON schema, against free text from the same worker: the price of obeying.

A list of records that cannot end before the tokens do, with the samplers that a chat has; the same
prompt, seed and count of tokens without a constraint is the floor.
"""

import json
import os
from pathlib import Path

from msgspec.structs import replace

from benchmarks.measure import Figure, alternate, median, spread
from benchmarks.worker import worker
from llmchat.engine.protocol import Constraint
from llmchat.values import Sampling

PROMPT, TOKENS = 64, 192
SCHEMA = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 24},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "email": {"type": "string", "format": "email"},
            "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3},
        },
        "required": ["name", "age", "email", "tags"],
        "additionalProperties": False,
    },
}


def measure(model: Path, home: Path, runs: int = 5) -> Figure:
    """One row: milliseconds a token, constrained over free."""
    with worker(model, home, 1024, len(os.sched_getaffinity(0))) as at:
        plain = replace(at.request(PROMPT, TOKENS), sampling=Sampling(seed=1))
        constraint = Constraint(kind="json_schema", text=json.dumps(SCHEMA))

        def milliseconds(obey: bool) -> float:
            request = replace(plain, constraint=constraint) if obey else plain
            finished, _ = at.run(at.finish(request))
            assert finished.usage.completion_tokens == TOKENS, finished.reason
            return finished.timings.generation / (TOKENS - 1) * 1000

        milliseconds(True), milliseconds(False)
        ours, free = alternate(runs, lambda: milliseconds(True), lambda: milliseconds(False))
    ratios = [one / other for one, other in zip(ours, free, strict=True)]
    return Figure(
        what=f"{TOKENS} tokens that obey a JSON schema, a token",
        against="the same without a schema",
        ours=median(ours),
        floor=median(free),
        ratio=median(ratios),
        reach="<= 1.10",
        unit="ms",
        runs=runs,
        note=f"ratio {spread(ratios)}; default samplers, seed 1",
    )
