"""What a loaded model's KV states belong to, asked of llama.cpp itself (`engine/disk/keys.py`).

Owns which facts go into the key. A value too many costs a re-read after a change; one too few
would be a wrong answer.
"""

from typing import Final

from llama_cpp import llama_cpp as lib

from llmchat.engine.disk import Circumstances
from llmchat.engine.worker.capi import Context, Pointer, model_text
from llmchat.engine.worker.loader import ContextParams, native_context

ROPE: Final = (
    "rope_scaling_type", "rope_freq_base", "rope_freq_scale", "yarn_ext_factor",
    "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow", "yarn_orig_ctx",
)  # fmt: skip
"""What a context may say of RoPE against its model, whose own values are part of its identity."""


def of(
    model: Pointer,
    context: Context,
    params: ContextParams,
    *,
    identity: str,
    build: str,
    n_gpu_layers: int,
) -> Circumstances:
    """The key of every state of this model in this context."""
    native = native_context(params)
    return Circumstances(
        identity=identity,
        build=build,
        cache_type_k=params.cache_type_k,
        cache_type_v=params.cache_type_v,
        flash_attn=params.flash_attn,
        swa_full=params.swa_full,
        kv_unified=bool(native.kv_unified),
        offloaded=n_gpu_layers != 0,
        rope=tuple(f"{name}={getattr(native, name)}" for name in ROPE),
        long_rope=int(lib.llama_n_ctx_seq(context.pointer)) > _trained(model, native.yarn_orig_ctx),
    )


def _trained(model: Pointer, asked: int) -> int:
    """`n_ctx_orig_yarn`: the context from which LongRoPE takes its other factors."""
    if asked:
        return int(asked)
    architecture = model_text(model, "general.architecture") or ""
    written = model_text(model, f"{architecture}.rope.scaling.original_context_length")
    if written is not None and written.isdecimal():
        return int(written)
    return int(lib.llama_model_n_ctx_train(model))
