"""Written models (`tests/written.py`) of kinds that are no plain transformer, and their sizes.

A recurrent one, a hybrid, an encoder, latent attention with shared experts, and a block without a
gate. As there: whole headers, holes for weights, real widths, fewer layers and tokens.
"""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np

Tensor = tuple[str, tuple[int, ...], bool]
Metadata = dict[str, int | float | bool | list[int]]
VOCAB = 2000
EPS = 1e-5


def write_kind(folder: Path, arch: str) -> Path:
    """The model's file."""
    metadata, tensors = KINDS[arch]
    path = folder / f"{arch}-Q8_0.gguf"
    writer = gguf.GGUFWriter(path, arch)
    for key, value in metadata.items():
        _add(writer, f"{arch}.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"<{number:x}>" for number in range(VOCAB)])
    writer.add_token_types([1] * VOCAB)
    writer.add_token_merges(["a b"])
    writer.add_token_type_count(2)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    end = 0
    for name, dims, quantized in tensors():
        kind = gguf.GGMLQuantizationType.Q8_0 if quantized else gguf.GGMLQuantizationType.F32
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = math.prod(dims) // block * size
        stored = gguf.quant_shape_to_byte_shape(dims, kind) if quantized else dims
        dtype = np.dtype(np.uint8 if quantized else np.float32)
        writer.add_tensor_info(name, stored, dtype, count, raw_dtype=kind)
        end += -(-count // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, -(-path.stat().st_size // 32) * 32 + end)
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: int | float | bool | list[int]) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)


def _blocks(count: int, block: Callable[[int], Iterator[Tensor]]) -> Iterator[Tensor]:
    for layer in range(count):
        for name, dims, quantized in block(layer):
            yield f"blk.{layer}.{name}", dims, quantized


def _mamba() -> Iterator[Tensor]:
    embd, inner, state, conv, rank = 768, 1536, 16, 4, 48

    def block(_: int) -> Iterator[Tensor]:
        yield "attn_norm.weight", (embd,), False
        yield "ssm_in.weight", (2 * inner, embd), True
        yield "ssm_conv1d.weight", (inner, conv), False
        yield "ssm_conv1d.bias", (inner,), False
        yield "ssm_x.weight", (rank + 2 * state, inner), True
        yield "ssm_dt.weight", (inner, rank), False
        yield "ssm_dt.bias", (inner,), False
        yield "ssm_a", (inner, state), False
        yield "ssm_d", (inner,), False
        yield "ssm_out.weight", (embd, inner), True

    yield "token_embd.weight", (VOCAB, embd), True
    yield "output_norm.weight", (embd,), False
    yield from _blocks(24, block)


LFM2_KV = [0, 0, 8, 0, 0, 8, 0, 8]


def _lfm2() -> Iterator[Tensor]:
    embd, ff, head = 1024, 4608, 64

    def block(layer: int) -> Iterator[Tensor]:
        yield "attn_norm.weight", (embd,), False
        yield "ffn_norm.weight", (embd,), False
        yield "ffn_gate.weight", (ff, embd), True
        yield "ffn_up.weight", (ff, embd), True
        yield "ffn_down.weight", (embd, ff), True
        if not LFM2_KV[layer]:
            yield "shortconv.conv.weight", (embd, 3), False
            yield "shortconv.in_proj.weight", (3 * embd, embd), True
            yield "shortconv.out_proj.weight", (embd, embd), True
            return
        yield "attn_q_norm.weight", (head,), False
        yield "attn_k_norm.weight", (head,), False
        yield "attn_q.weight", (embd, embd), True
        yield "attn_k.weight", (8 * head, embd), True
        yield "attn_v.weight", (8 * head, embd), True
        yield "attn_output.weight", (embd, embd), True

    yield "token_embd.weight", (VOCAB, embd), True
    yield "token_embd_norm.weight", (embd,), False
    yield from _blocks(len(LFM2_KV), block)


def _bert() -> Iterator[Tensor]:
    embd, ff = 384, 1536

    def block(_: int) -> Iterator[Tensor]:
        for name in ("q", "k", "v", "output"):
            yield f"attn_{name}.weight", (embd, embd), True
            yield f"attn_{name}.bias", (embd,), False
        for name in ("attn_output_norm", "layer_output_norm"):
            yield f"{name}.weight", (embd,), False
            yield f"{name}.bias", (embd,), False
        yield "ffn_up.weight", (ff, embd), True
        yield "ffn_up.bias", (ff,), False
        yield "ffn_down.weight", (embd, ff), True
        yield "ffn_down.bias", (embd,), False

    yield "token_embd.weight", (VOCAB, embd), True
    yield "position_embd.weight", (512, embd), False
    yield "token_types.weight", (2, embd), False
    yield "token_embd_norm.weight", (embd,), False
    yield "token_embd_norm.bias", (embd,), False
    yield from _blocks(12, block)


def _deepseek2() -> Iterator[Tensor]:
    embd, heads, lora, q_lora, rope, nope, v_head = 2048, 16, 512, 1536, 64, 128, 128

    def block(layer: int) -> Iterator[Tensor]:
        yield "attn_norm.weight", (embd,), False
        yield "attn_q_a.weight", (q_lora, embd), True
        yield "attn_q_a_norm.weight", (q_lora,), False
        yield "attn_q_b.weight", (heads * (nope + rope), q_lora), True
        yield "attn_kv_a_mqa.weight", (lora + rope, embd), True
        yield "attn_kv_a_norm.weight", (lora,), False
        yield "attn_k_b.weight", (heads, lora, nope), True
        yield "attn_v_b.weight", (heads, v_head, lora), True
        yield "attn_output.weight", (embd, heads * v_head), True
        yield "ffn_norm.weight", (embd,), False
        kinds = (("", 10_944),) if layer == 0 else (("_exps", 1408), ("_shexp", 2816))
        for kind, ff in kinds:
            experts = (64,) if kind == "_exps" else ()
            yield f"ffn_gate{kind}.weight", (*experts, ff, embd), True
            yield f"ffn_up{kind}.weight", (*experts, ff, embd), True
            yield f"ffn_down{kind}.weight", (*experts, embd, ff), True
        if layer:
            yield "ffn_gate_inp.weight", (64, embd), False

    yield "token_embd.weight", (VOCAB, embd), True
    yield "output_norm.weight", (embd,), False
    yield "output.weight", (VOCAB, embd), True
    yield from _blocks(6, block)


def _starcoder2() -> Iterator[Tensor]:
    embd, ff, kv = 3072, 12_288, 256

    def block(_: int) -> Iterator[Tensor]:
        for name in ("attn_norm", "ffn_norm"):
            yield f"{name}.weight", (embd,), False
            yield f"{name}.bias", (embd,), False
        for name, rows, columns in (
            ("attn_q", embd, embd),
            ("attn_k", kv, embd),
            ("attn_v", kv, embd),
            ("attn_output", embd, embd),
            ("ffn_up", ff, embd),
            ("ffn_down", embd, ff),
        ):
            yield f"{name}.weight", (rows, columns), True
            yield f"{name}.bias", (rows,), False

    yield "token_embd.weight", (VOCAB, embd), True
    yield "output_norm.weight", (embd,), False
    yield "output_norm.bias", (embd,), False
    yield from _blocks(30, block)


KINDS: dict[str, tuple[Metadata, Callable[[], Iterator[Tensor]]]] = {
    "mamba": (
        {
            "block_count": 24,
            "context_length": 1_048_576,
            "embedding_length": 768,
            "feed_forward_length": 0,
            "attention.head_count": 0,
            "attention.layer_norm_rms_epsilon": EPS,
            "ssm.conv_kernel": 4,
            "ssm.inner_size": 1536,
            "ssm.state_size": 16,
            "ssm.time_step_rank": 48,
        },
        _mamba,
    ),
    "lfm2": (
        {
            "block_count": 8,
            "context_length": 128_000,
            "embedding_length": 1024,
            "feed_forward_length": 4608,
            "attention.head_count": 16,
            "attention.head_count_kv": LFM2_KV,
            "attention.layer_norm_rms_epsilon": EPS,
            "shortconv.l_cache": 3,
            "rope.freq_base": 1e6,
        },
        _lfm2,
    ),
    "bert": (
        {
            "block_count": 12,
            "context_length": 512,
            "embedding_length": 384,
            "feed_forward_length": 1536,
            "attention.head_count": 12,
            "attention.layer_norm_epsilon": 1e-12,
            "attention.causal": False,
            "pooling_type": 1,
        },
        _bert,
    ),
    "deepseek2": (
        {
            "block_count": 6,
            "context_length": 163_840,
            "embedding_length": 2048,
            "feed_forward_length": 10_944,
            "vocab_size": VOCAB,
            "attention.head_count": 16,
            "attention.head_count_kv": 1,
            "attention.key_length": 576,
            "attention.value_length": 512,
            "attention.key_length_mla": 192,
            "attention.value_length_mla": 128,
            "attention.kv_lora_rank": 512,
            "attention.q_lora_rank": 1536,
            "attention.layer_norm_rms_epsilon": 1e-6,
            "leading_dense_block_count": 1,
            "expert_count": 64,
            "expert_used_count": 6,
            "expert_feed_forward_length": 1408,
            "expert_shared_count": 2,
            "expert_weights_scale": 1.0,
            "expert_gating_func": 1,
            "rope.dimension_count": 64,
            "rope.freq_base": 10_000.0,
        },
        _deepseek2,
    ),
    "starcoder2": (
        {
            "block_count": 30,
            "context_length": 16_384,
            "embedding_length": 3072,
            "feed_forward_length": 12_288,
            "attention.head_count": 24,
            "attention.head_count_kv": 2,
            "attention.layer_norm_epsilon": EPS,
            "rope.freq_base": 1e6,
        },
        _starcoder2,
    ),
}
