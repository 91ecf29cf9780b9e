"""Models of real shapes without weights: a whole header, and a hole where the weights would be.

llama.cpp lays them out exactly as the real ones (`no_alloc` reads no weights), and on the disk they
take a few hundred kilobytes, whatever size they claim. Vocabularies are shorter than the real ones.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

Q8_0 = gguf.GGMLQuantizationType.Q8_0
F32 = gguf.GGMLQuantizationType.F32


@dataclass(frozen=True)
class Written:
    """The numbers of a model, in llama.cpp's words."""

    arch: str
    layers: int
    embd: int
    ff: int
    heads: int
    kv: int
    head: int
    vocab: int = 8000
    experts: int = 0
    used: int = 0
    ff_expert: int = 0
    window: int = 0
    tied: bool = False
    n_ctx: int = 131_072


SHAPES = {
    "llama-8b": Written("llama", 32, 4096, 14_336, 32, 8, 128),
    "llama-1b": Written("llama", 16, 2048, 8192, 32, 8, 64, tied=True),
    "qwen2-7b": Written("qwen2", 28, 3584, 18_944, 28, 4, 128),
    "qwen2-0.5b": Written("qwen2", 24, 896, 4864, 14, 2, 64, tied=True),
    "qwen3-4b": Written("qwen3", 36, 2560, 9728, 32, 8, 128, tied=True),
    "qwen3-30b-a3b": Written(
        "qwen3moe", 48, 2048, 6144, 32, 4, 128, experts=128, used=8, ff_expert=768
    ),
    "mixtral-8x7b": Written(
        "llama", 32, 4096, 14_336, 32, 8, 128, experts=8, used=2, ff_expert=14_336
    ),
    "gemma3-4b": Written("gemma3", 34, 2560, 10_240, 8, 4, 256, window=1024, tied=True),
    "tiny": Written("llama", 4, 256, 512, 8, 2, 32, vocab=2000),
}


def write(folder: Path, name: str, shape: Written | None = None) -> Path:
    """The model's file; the one of `SHAPES` when no shape is given."""
    shape = shape or SHAPES[name]
    path = folder / f"{name}-Q8_0.gguf"
    writer = gguf.GGUFWriter(path, shape.arch)
    _metadata(writer, shape)
    end = 0
    for tensor, dims, quantized in _tensors(shape):
        kind = Q8_0 if quantized else F32
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = math.prod(dims) // block * size
        stored = gguf.quant_shape_to_byte_shape(dims, kind) if quantized else dims
        dtype = np.dtype(np.uint8 if quantized else np.float32)
        writer.add_tensor_info(tensor, stored, dtype, count, raw_dtype=kind)
        end += -(-count // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header = path.stat().st_size
    os.truncate(path, -(-header // 32) * 32 + end)
    return path


def _metadata(writer: gguf.GGUFWriter, shape: Written) -> None:
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.embd)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(7)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.used)
        writer.add_expert_feed_forward_length(shape.ff_expert)
    if shape.window:
        writer.add_sliding_window(shape.window)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"<{number:x}>" for number in range(shape.vocab)])
    writer.add_token_types([1] * shape.vocab)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


Tensor = tuple[str, tuple[int, ...], bool]


def _tensors(shape: Written) -> Iterator[Tensor]:
    yield "token_embd.weight", (shape.vocab, shape.embd), True
    yield "output_norm.weight", (shape.embd,), False
    if not shape.tied:
        yield "output.weight", (shape.vocab, shape.embd), True
    for layer in range(shape.layers):
        for name, dims, quantized in (*_attention(shape), *_feed_forward(shape)):
            yield f"blk.{layer}.{name}", dims, quantized


def _attention(shape: Written) -> Iterator[Tensor]:
    q, kv = shape.heads * shape.head, shape.kv * shape.head
    yield "attn_norm.weight", (shape.embd,), False
    yield "attn_q.weight", (q, shape.embd), True
    yield "attn_k.weight", (kv, shape.embd), True
    yield "attn_v.weight", (kv, shape.embd), True
    yield "attn_output.weight", (shape.embd, q), True
    if shape.arch == "qwen2":
        for name, width in (("q", q), ("k", kv), ("v", kv)):
            yield f"attn_{name}.bias", (width,), False
    if shape.arch in ("qwen3", "qwen3moe", "gemma3"):
        yield "attn_q_norm.weight", (shape.head,), False
        yield "attn_k_norm.weight", (shape.head,), False
    if shape.arch == "gemma3":
        yield "post_attention_norm.weight", (shape.embd,), False


def _feed_forward(shape: Written) -> Iterator[Tensor]:
    yield "ffn_norm.weight", (shape.embd,), False
    if shape.arch == "gemma3":
        yield "post_ffw_norm.weight", (shape.embd,), False
    if not shape.experts:
        yield "ffn_gate.weight", (shape.ff, shape.embd), True
        yield "ffn_up.weight", (shape.ff, shape.embd), True
        yield "ffn_down.weight", (shape.embd, shape.ff), True
        return
    yield "ffn_gate_inp.weight", (shape.experts, shape.embd), False
    yield "ffn_gate_exps.weight", (shape.experts, shape.ff_expert, shape.embd), True
    yield "ffn_up_exps.weight", (shape.experts, shape.ff_expert, shape.embd), True
    yield "ffn_down_exps.weight", (shape.experts, shape.embd, shape.ff_expert), True
