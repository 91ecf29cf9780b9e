"""A model of two layers with random weights, and what may be put beside it: LoRA, control vectors.

Small enough to be computed in a millisecond, and large enough that a wrong row shows.
"""

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

LAYERS, WIDTH, FF, HEADS, VOCAB = 2, 64, 128, 4, 320
RANK, ALPHA = 4, 8.0
Floats = npt.NDArray[np.float32]

CHANGED = ("blk.0.attn_q.weight", "blk.1.ffn_down.weight")
"""What the written adapter changes."""


def weights(seed: int = 7) -> dict[str, Floats]:
    """Every tensor by name, rows first."""
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> Floats:
        return np.asarray(random.standard_normal((rows, columns)) / columns**0.5, np.float32)

    found = {
        "token_embd.weight": matrix(VOCAB, WIDTH) * 8,
        "output_norm.weight": np.ones(WIDTH, np.float32),
        "output.weight": matrix(VOCAB, WIDTH) * 4,
    }
    for layer in range(LAYERS):
        own = {
            "attn_norm": np.ones(WIDTH, np.float32),
            "attn_q": matrix(WIDTH, WIDTH),
            "attn_k": matrix(WIDTH, WIDTH),
            "attn_v": matrix(WIDTH, WIDTH),
            "attn_output": matrix(WIDTH, WIDTH),
            "ffn_norm": np.ones(WIDTH, np.float32),
            "ffn_gate": matrix(FF, WIDTH),
            "ffn_up": matrix(FF, WIDTH),
            "ffn_down": matrix(WIDTH, FF),
        }
        found.update({f"blk.{layer}.{name}.weight": value for name, value in own.items()})
    return found


def pair(name: str, seed: int = 11) -> tuple[Floats, Floats]:
    """The adapter's A (rank, in) and B (out, rank) for a tensor."""
    rows, columns = weights()[name].shape
    random = np.random.default_rng(seed + len(name))
    a, b = random.standard_normal((RANK, columns)), random.standard_normal((rows, RANK))
    return (a / 8).astype(np.float32), (b / 2).astype(np.float32)


def merged(scale: float) -> dict[str, Floats]:
    """The weights with `scale` times the adapter in them."""
    found = weights()
    for name in CHANGED:
        a, b = pair(name)
        found[name] = (found[name] + scale * ALPHA / RANK * (b @ a)).astype(np.float32)
    return found


def write_model(path: Path, tensors: dict[str, Floats]) -> Path:
    """A llama model that llama.cpp loads."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"<{number:x}>" for number in range(VOCAB)])
    writer.add_token_types([1] * VOCAB)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, value in tensors.items():
        writer.add_tensor(name, value)
    return finish(writer, path)


def write_lora(path: Path, arch: str = "llama", kind: str = "lora") -> Path:
    """An adapter for `CHANGED`."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for name in CHANGED:
        a, b = pair(name)
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
    return finish(writer, path)


def write_vector(path: Path, width: int = WIDTH, layers: int = LAYERS) -> Path:
    """A control vector: a direction for every layer but the first."""
    writer = gguf.GGUFWriter(path, "controlvector")
    random = np.random.default_rng(5)
    for layer in range(1, layers):
        writer.add_tensor(
            f"direction.{layer}", (random.standard_normal(width) * 3).astype(np.float32)
        )
    return finish(writer, path)


def finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    """Write what the writer was given."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
