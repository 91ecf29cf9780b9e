"""The order of a load, the same for every backend: check, plan, ask, weights, context, warm-up.

Owns what is told about a load, that it can be stopped, and that whatever it had taken is given back
when it fails. Refuses numbers of its own (where things lie is `fit.py`'s, what llama.cpp gets is
`loader.py`'s) and what is made of the loaded model.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any, Literal, TypeVar

from llama_cpp import llama_cpp as lib
from msgspec import Struct

from llmchat.engine.backend import Verdict
from llmchat.engine.protocol import Loading, Plan
from llmchat.engine.settling import settle
from llmchat.engine.worker import fit
from llmchat.engine.worker.bounds import bounded
from llmchat.engine.worker.capi import Context, Pointer
from llmchat.engine.worker.devices import find_devices
from llmchat.engine.worker.loader import Loaded, open_context, open_model
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.vocab import Vocab
from llmchat.errors import EngineError, ModelFileError
from llmchat.gguf import check_loadable
from llmchat.values import ModelFile, Wants

T = TypeVar("T")
Stage = Literal["plan", "weights", "context", "warmup"]


class Audience(Struct, frozen=True):
    """Who waits for a load."""

    progress: Callable[[Loading], None]
    """Hears how far it is."""
    proceed: Callable[[Plan], Verdict]
    """Is asked before memory is taken, once for each plan."""
    stopping: Callable[[], bool]
    """Says that nobody waits any more."""

    def tell(self, stage: Stage, fraction: float = 1.0) -> None:
        """A stage begins."""
        self.progress(Loading(fraction=fraction, stage=stage))


def load(
    model: ModelFile,
    wants: Wants,
    log: LogRing,
    audience: Audience,
    *,
    shape: fit.Shape = fit.as_placed,
    prepare: Callable[[Pointer], None] = lambda _model: None,
    finish: Callable[[Loaded, fit.Decision], T],
) -> T:
    """Load a model.

    `shape` says what context they need, `prepare` gets the weights before it is made, `finish`
    makes what is returned of all of it; what any raises undoes the load.

    Raises:
        EngineError: the header's or llama.cpp's reason, or that it was told to stop.
    """
    wants = bounded(wants)
    audience.tell("plan", 0.0)
    try:
        # Some headers end the process inside llama.cpp, where nothing can be said about them.
        check_loadable(model.path)
    except ModelFileError as error:
        values: dict[str, Any] = dict(error.values)
        raise EngineError(error.key, **values) from error
    paths = model.shards or (model.path,)
    decision = _agreed(paths, wants, log, audience, shape)
    with ExitStack() as undo:
        pointer = open_model(paths, decision.model, log, _Throttle(audience))
        undo.callback(lib.llama_model_free, pointer)
        prepare(pointer)
        params = decision.context
        audience.tell("context")
        native = open_context(pointer, params, log)
        n_vocab = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(pointer)))
        loaded = Loaded(pointer, Context(native, n_vocab, params.n_batch), Vocab(pointer))
        undo.pop_all()
        undo.callback(loaded.close)  # both, in their order
        audience.tell("warmup")
        loaded.warm_up()
        finished = finish(loaded, decision)
        undo.pop_all()
    return finished


def _agreed(
    paths: Sequence[str], wants: Wants, log: LogRing, audience: Audience, shape: fit.Shape
) -> fit.Decision:
    """A placement that whoever waits for it agrees to; planned anew after others made room.

    Raises:
        EngineError: nobody agreed, or it cannot fit at all.
    """
    while True:
        decision = fit.decide(paths, wants, log, shape)
        verdict = audience.proceed(
            Plan(
                devices=decision.devices,
                needs=decision.needs,
                short=decision.short,
                placement=decision.placement,
            )
        )
        if verdict is Verdict.STOP:
            raise EngineError("engine.load_stopped", recoverable=True)
        if verdict is Verdict.GO and decision.refusal is not None:
            raise decision.refusal
        if verdict is Verdict.GO:
            return decision
        settle(_free, clock=time.monotonic, wait=time.sleep)


def _free() -> dict[str, int]:
    return {found.device.name: found.device.free for found in find_devices()}


class _Throttle:
    """Turns llama.cpp's hundreds of progress calls into at most a hundred events."""

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self._last = -1.0

    def __call__(self, fraction: float) -> bool:
        """Tell, if it is worth it. False: give up."""
        if fraction - self._last >= 0.01:
            self._last = fraction
            self._audience.tell("weights", min(1.0, fraction))
        return not self._audience.stopping()


def build() -> str:
    """The binding's version and a hash of what llama.cpp was compiled for."""
    system = hashlib.sha256(lib.llama_print_system_info()).hexdigest()[:8]
    return f"llama-cpp-python {version('llama-cpp-python')} {system}"
