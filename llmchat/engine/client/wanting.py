"""Whether a live worker satisfies what a client wants: wants, not parameters."""

from llmchat.engine.protocol import Facts
from llmchat.values import Wants

_AUTO = ("auto", None)
_FILES = ("lora", "control_vectors")
"""A worker that has loaded more of them than are wanted will do."""
_DEFAULTS = {
    "cache_type_k": "f16",
    "cache_type_v": "f16",
    "swa_full": False,
    "use_mlock": False,
    "check_tensors": False,
}


def satisfies(held: Wants, facts: Facts, wanted: Wants) -> bool:
    """Whether a worker started with `held` and loaded as `facts` may serve `wanted`.

    Unset is any; `n_ctx` is a minimum, the rest exact. A context that was already asked for and
    could not be had whole satisfies whoever asks for as much: a reload would change nothing.
    """
    if wanted.n_ctx is not None and max(facts.n_ctx, held.n_ctx or 0) < wanted.n_ctx:
        return False
    if not _layers(held, facts, wanted.n_gpu_layers):
        return False
    if wanted.n_threads is not None and wanted.n_threads not in (held.n_threads, facts.n_threads):
        return False
    others = (
        name
        for name in Wants.__struct_fields__
        if name not in ("n_ctx", "n_gpu_layers", "n_threads", *_FILES)
    )
    if not all(set(getattr(wanted, n) or ()) <= set(getattr(held, n) or ()) for n in _FILES):
        return False
    return all(_same(name, getattr(held, name), getattr(wanted, name)) for name in others)


def _layers(held: Wants, facts: Facts, wanted: object) -> bool:
    if wanted is None or wanted == held.n_gpu_layers:
        return True
    if wanted == "auto":
        return held.n_gpu_layers in _AUTO
    placement = facts.placement
    if wanted == "all":
        return placement.n_gpu_layers >= placement.n_layers > 0
    return wanted == placement.n_gpu_layers


def _same(name: str, held: object, wanted: object) -> bool:
    if wanted is None or wanted == held:
        return True
    if wanted == "auto":
        return held in _AUTO
    return held is None and name in _DEFAULTS and wanted == _DEFAULTS[name]
