"""Models of a few kilobytes of random weights, one for each kind of memory, written on the spot.

What they say is noise; whether a reused prefix gives the logits of a fresh read is not. Tensor
names and shapes are those that llama.cpp asks for (src/models/{mamba,jamba,qwen2vl}.cpp).
"""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

WIDTH, LAYERS, FF = 64, 4, 96
INNER, STATE, CONV, RANK = 2 * WIDTH, 8, 4, 4
HEADS = 4
TRAINED = 4096
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = [
    "<unk>",
    "<s>",
    "</s>",
    "<|turn|>",
    "<think>",
    "</think>",
    *BYTES,
    *map(chr, range(33, 127)),
]

# The reply's thinking is left out of history: each next turn diverges where the reply began.
TEMPLATE = (
    "{% for m in messages %}<|turn|>{{ m.role }}:{{ m.content.split('</think>')[-1] }}"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant:<think>{% endif %}"
)


class _Writer:
    def __init__(self, path: Path, architecture: str) -> None:
        self.random = np.random.default_rng(11)
        self.gguf = gguf.GGUFWriter(path, architecture)
        self.gguf.add_context_length(TRAINED)
        self.gguf.add_embedding_length(WIDTH)
        self.gguf.add_block_count(LAYERS)
        self.gguf.add_feed_forward_length(FF)
        self.gguf.add_layer_norm_rms_eps(1e-5)
        self.gguf.add_vocab_size(len(WORDS))
        kinds = gguf.TokenType
        types = [kinds.UNKNOWN, *[kinds.CONTROL] * 3, *[kinds.USER_DEFINED] * 2]
        types += [kinds.BYTE] * 256 + [kinds.NORMAL] * (len(WORDS) - 262)
        self.gguf.add_tokenizer_model("llama")
        self.gguf.add_token_list(WORDS)
        self.gguf.add_token_scores([0.0] * len(WORDS))
        self.gguf.add_token_types(types)
        self.gguf.add_bos_token_id(1)
        self.gguf.add_eos_token_id(2)
        self.gguf.add_chat_template(TEMPLATE)
        self.random_tensor("token_embd.weight", len(WORDS), WIDTH, scale=1.0)
        self.tensor("output_norm.weight", np.ones(WIDTH))

    def tensor(self, name: str, values: npt.NDArray[np.float64]) -> None:
        self.gguf.add_tensor(name, np.ascontiguousarray(values, np.float32))

    def random_tensor(self, name: str, *shape: int, scale: float | None = None) -> None:
        """`shape` as NumPy has it: llama.cpp's backwards."""
        deviation = scale if scale is not None else 1.2 / np.sqrt(shape[-1])
        self.tensor(name, self.random.normal(0, deviation, shape))

    def mamba(self, layer: int, *, norms: bool = False) -> None:
        name = f"blk.{layer}."
        self.tensor(f"{name}attn_norm.weight", np.ones(WIDTH))
        self.random_tensor(f"{name}ssm_in.weight", 2 * INNER, WIDTH)
        self.random_tensor(f"{name}ssm_conv1d.weight", INNER, CONV, scale=0.5)
        self.random_tensor(f"{name}ssm_conv1d.bias", INNER, scale=0.1)
        self.random_tensor(f"{name}ssm_x.weight", RANK + 2 * STATE, INNER)
        self.random_tensor(f"{name}ssm_dt.weight", INNER, RANK)
        self.random_tensor(f"{name}ssm_dt.bias", INNER, scale=0.1)
        # Slow decay: what was said long ago still counts, so that a wrong state shows.
        self.tensor(f"{name}ssm_a", -np.exp(self.random.normal(-4, 0.5, (INNER, STATE))))
        self.random_tensor(f"{name}ssm_d", INNER, scale=1.0)
        self.random_tensor(f"{name}ssm_out.weight", WIDTH, INNER)
        if norms:
            for part, width in (("dt", RANK), ("b", STATE), ("c", STATE)):
                self.tensor(f"{name}ssm_{part}_norm.weight", np.ones(width))

    def attention(self, layer: int, *, biases: bool = False) -> None:
        name = f"blk.{layer}."
        self.tensor(f"{name}attn_norm.weight", np.ones(WIDTH))
        for part in "qkv":
            self.random_tensor(f"{name}attn_{part}.weight", WIDTH, WIDTH)
            if biases:
                self.random_tensor(f"{name}attn_{part}.bias", WIDTH, scale=0.1)
        self.random_tensor(f"{name}attn_output.weight", WIDTH, WIDTH)

    def feed_forward(self, layer: int) -> None:
        name = f"blk.{layer}."
        self.tensor(f"{name}ffn_norm.weight", np.ones(WIDTH))
        self.random_tensor(f"{name}ffn_gate.weight", FF, WIDTH)
        self.random_tensor(f"{name}ffn_up.weight", FF, WIDTH)
        self.random_tensor(f"{name}ffn_down.weight", WIDTH, FF)

    def ssm_sizes(self) -> None:
        self.gguf.add_ssm_conv_kernel(CONV)
        self.gguf.add_ssm_inner_size(INNER)
        self.gguf.add_ssm_state_size(STATE)
        self.gguf.add_ssm_time_step_rank(RANK)

    def close(self) -> None:
        self.gguf.write_header_to_file()
        self.gguf.write_kv_data_to_file()
        self.gguf.write_tensors_to_file()
        self.gguf.close()


def recurrent(path: Path) -> None:
    """Mamba: a state and nothing else."""
    writer = _Writer(path, "mamba")
    writer.ssm_sizes()
    writer.gguf.add_head_count(0)
    for layer in range(LAYERS):
        writer.mamba(layer)
    writer.close()


def hybrid(path: Path) -> None:
    """Jamba: Mamba layers with one of attention among them."""
    writer = _Writer(path, "jamba")
    writer.ssm_sizes()
    writer.gguf.add_head_count(HEADS)
    writer.gguf.add_head_count_kv([0 if layer != 2 else HEADS for layer in range(LAYERS)])
    for layer in range(LAYERS):
        if layer == 2:
            writer.attention(layer)
        else:
            writer.mamba(layer, norms=True)
        writer.feed_forward(layer)
    writer.close()


def mrope(path: Path) -> None:
    """Qwen2-VL: positions of four parts, which cannot be shifted."""
    writer = _Writer(path, "qwen2vl")
    writer.gguf.add_head_count(HEADS)
    writer.gguf.add_head_count_kv(HEADS)
    half = WIDTH // HEADS // 2
    writer.gguf.add_rope_dimension_sections([half // 4, half // 4, half // 2, 0])
    for layer in range(LAYERS):
        writer.attention(layer, biases=True)
        writer.feed_forward(layer)
    writer.close()


MAKERS: dict[str, Callable[[Path], None]] = {
    "recurrent": recurrent,
    "hybrid": hybrid,
    "mrope": mrope,
}
