"""Embedding models and rerankers built like chat models: written as GGUF, and computed in NumPy.

Three kinds, each small: Qwen3-Embedding's (causal, the last token's vector, an end-of-text token
behind every text), Qwen3-Reranker's (a classifier of two rows and a template of its own) and
EmbeddingGemma's (both directions through a window, the mean, two projections behind it). The
forward pass follows their papers and shares no code with the engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

WIDTH, FF, HEADS, KV_HEADS, HEAD = 64, 96, 4, 2, 16
N_CTX = 1024
EPS = 1e-6
MEAN, LAST, RANK = 1, 3, 4
END, IM_START, IM_END, THINK, UNTHINK = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>",
)  # fmt: skip
TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the Query. Only \"yes\" or \"no\"."
    "<|im_end|>\n<|im_start|>user\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)  # fmt: skip
"""As llama.cpp's converter writes it for Qwen3-Reranker (conversion/qwen.py), shorter."""


@dataclass(frozen=True)
class Kind:
    """What these architectures differ in."""

    arch: str
    layers: int
    pooling: int
    causal: bool = True
    window: int = 0
    """Tokens that a layer looks at, both sides together; every sixth looks at all."""
    adds_end: bool = True


class Decoder:
    """Weights by their names in the file."""

    def __init__(self, kind: Kind, seed: int = 5) -> None:
        self.kind = kind
        self.vocab, self.types = _byte_vocab() if kind.causal else _sentence_vocab()
        self.ids = {piece: number for number, piece in enumerate(self.vocab)}
        self.weights = _weights(kind, len(self.vocab), np.random.default_rng(seed))

    # text to ids

    def plain(self, text: str) -> list[int]:
        """Ids of words; no sign to the program among them. The one merge is of " c"."""
        if self.kind.causal:
            signs = _byte_signs()
            space, pieces = signs[32], [signs[byte] for byte in text.encode()]
        else:
            space, pieces = "▁", []
            for sign in text.replace(" ", "▁"):
                known = [sign] if sign in self.ids else [f"<0x{b:02X}>" for b in sign.encode()]
                pieces += known
        found: list[int] = []
        for piece in pieces:
            if piece == "c" and found and found[-1] == self.ids[space]:
                found[-1] = self.ids[space + "c"]
            else:
                found.append(self.ids[piece])
        return found

    def marked(self, text: str) -> list[int]:
        """Ids of a template's words: its signs are tokens."""
        signs = [END, IM_START, IM_END, THINK, UNTHINK]
        found: list[int] = []
        while text:
            places = {sign: text.find(sign) for sign in signs if sign in text}
            sign = min(places, key=lambda each: places[each], default="")
            before, _, text = text.partition(sign) if sign else (text, "", "")
            found += self.plain(before) + ([self.ids[sign]] if sign else [])
        return found

    def around(self, text: str) -> list[int]:
        """A text's ids with what the vocabulary asks for around it."""
        if not self.kind.causal:
            return [self.ids["<bos>"], *self.plain(text), self.ids["<eos>"]]
        return self.plain(text) + ([self.ids[END]] if self.kind.adds_end else [])

    # ids to vectors

    def hidden(self, ids: Sequence[int]) -> Floats:
        """After the last norm. Shape (len(ids), WIDTH)."""
        gemma = not self.kind.causal
        x = self.weights["token_embd.weight"][list(ids)]
        x = x * np.float32(WIDTH**0.5) if gemma else x
        for layer in range(self.kind.layers):
            w = {
                name.removeprefix(f"blk.{layer}.").removesuffix(".weight"): values
                for name, values in self.weights.items()
                if name.startswith(f"blk.{layer}.")
            }
            mixed = self._attend(_rms(x, w["attn_norm"]), w, layer)
            x = x + (_rms(mixed, w["post_attention_norm"]) if gemma else mixed)
            inner = _rms(x, w["ffn_norm"])
            gate = inner @ w["ffn_gate"].T
            gate = _gelu(gate) if gemma else gate / (1 + np.exp(-gate))
            out = (gate * (inner @ w["ffn_up"].T)) @ w["ffn_down"].T
            x = x + (_rms(out, w["post_ffw_norm"]) if gemma else out)
        return _rms(x, self.weights["output_norm.weight"])

    def embed(self, ids: Sequence[int], *, unit: bool = True) -> Floats:
        """The pooled vector, at length 1 where asked."""
        rows = self.hidden(ids)
        vector = rows[-1] if self.kind.pooling == LAST else rows.mean(0)
        if "dense_2.weight" in self.weights:
            vector = self.weights["dense_3.weight"] @ (self.weights["dense_2.weight"] @ vector)
        return np.asarray(vector / np.linalg.norm(vector) if unit else vector, np.float32)

    def score(self, ids: Sequence[int]) -> float:
        """How sure it is of "yes" behind the last token."""
        yes, no = self.weights["cls.output.weight"] @ self.hidden(ids)[-1]
        return float(1 / (1 + np.exp(no - yes)))

    def _attend(self, x: Floats, w: Mapping[str, Floats], layer: int) -> Floats:
        n = len(x)
        looks_far = not self.kind.window or layer % 6 == 5
        base = 1e6 if looks_far else 1e4
        q = _turned(_rms((x @ w["attn_q"].T).reshape(n, HEADS, HEAD), w["attn_q_norm"]), base)
        k = _turned(_rms((x @ w["attn_k"].T).reshape(n, KV_HEADS, HEAD), w["attn_k_norm"]), base)
        v = (x @ w["attn_v"].T).reshape(n, KV_HEADS, HEAD)
        k, v = (np.repeat(each, HEADS // KV_HEADS, axis=1) for each in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(HEAD)
        away = np.arange(n)[None, :] - np.arange(n)[:, None]
        hidden = away > 0 if self.kind.causal else np.zeros((n, n), bool)
        if not looks_far:
            hidden = hidden | (abs(away) > self.kind.window // 2)
        scores = np.where(hidden, -np.inf, scores)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores = scores / scores.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", scores, v).reshape(n, HEADS * HEAD)
        return np.asarray(mixed @ w["attn_output"].T, np.float32)

    # to a file

    def write(self, path: Path) -> Path:
        """As llama.cpp's converter writes its like."""
        kind = self.kind
        writer = gguf.GGUFWriter(str(path), kind.arch)
        writer.add_block_count(kind.layers)
        writer.add_context_length(N_CTX)
        writer.add_embedding_length(WIDTH)
        writer.add_feed_forward_length(FF)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(KV_HEADS)
        writer.add_key_length(HEAD)
        writer.add_value_length(HEAD)
        writer.add_layer_norm_rms_eps(EPS)
        writer.add_rope_freq_base(1e6)
        writer.add_file_type(0)
        writer.add_pooling_type(gguf.PoolingType(kind.pooling))
        if kind.window:
            writer.add_sliding_window(kind.window)
            writer.add_rope_freq_base_swa(1e4)
            writer.add_dense_features_dims("dense_2", WIDTH, 2 * WIDTH)
            writer.add_dense_features_dims("dense_3", 2 * WIDTH, WIDTH)
        if kind.pooling == RANK:
            writer.add_classifier_output_labels(["yes", "no"])
            writer.add_chat_template([{"name": "rerank", "template": TEMPLATE}])
        self._write_vocab(writer)
        for name, values in self.weights.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def _write_vocab(self, writer: Any) -> None:
        writer.add_tokenizer_model("gpt2" if self.kind.causal else "llama")
        writer.add_tokenizer_pre("qwen2" if self.kind.causal else "default")
        writer.add_token_list(self.vocab)
        writer.add_token_types(self.types)
        if self.kind.causal:
            writer.add_token_merges(["Ġ c"])
            writer.add_eos_token_id(self.ids[END])
            writer.add_add_bos_token(False)
            writer.add_add_eos_token(self.kind.adds_end)
            return
        writer.add_token_scores([-float(number) for number in range(len(self.vocab))])
        writer.add_bos_token_id(self.ids["<bos>"])
        writer.add_eos_token_id(self.ids["<eos>"])
        writer.add_unk_token_id(self.ids["<unk>"])
        writer.add_add_bos_token(True)
        writer.add_add_eos_token(True)
        writer.add_add_space_prefix(False)


def embedder(*, adds_end: bool = True) -> Decoder:
    """Qwen3-Embedding's kind."""
    return Decoder(Kind("qwen3", 3, LAST, adds_end=adds_end))


def reranker() -> Decoder:
    """Qwen3-Reranker's kind."""
    return Decoder(Kind("qwen3", 3, RANK))


def gemma_embedding() -> Decoder:
    """EmbeddingGemma's kind."""
    return Decoder(Kind("gemma-embedding", 6, MEAN, causal=False, window=8))


def _weights(kind: Kind, n_vocab: int, random: np.random.Generator) -> dict[str, Floats]:
    def matrix(rows: int, columns: int) -> Floats:
        return np.asarray(random.standard_normal((rows, columns)) / columns**0.5, np.float32)

    def norm(width: int = WIDTH) -> Floats:
        return np.asarray(1 + random.normal(0, 0.2, width), np.float32)

    found = {
        "token_embd.weight": matrix(n_vocab, WIDTH) * np.float32(4),
        "output_norm.weight": norm(),
    }
    for layer in range(kind.layers):
        own = {
            "attn_norm": norm(),
            "attn_q": matrix(HEADS * HEAD, WIDTH),
            "attn_k": matrix(KV_HEADS * HEAD, WIDTH),
            "attn_v": matrix(KV_HEADS * HEAD, WIDTH),
            "attn_output": matrix(WIDTH, HEADS * HEAD),
            "attn_q_norm": norm(HEAD),
            "attn_k_norm": norm(HEAD),
            "ffn_norm": norm(),
            "ffn_gate": matrix(FF, WIDTH),
            "ffn_up": matrix(FF, WIDTH),
            "ffn_down": matrix(WIDTH, FF),
        }
        if not kind.causal:
            own |= {"post_attention_norm": norm(), "post_ffw_norm": norm()}
        found |= {f"blk.{layer}.{name}.weight": values for name, values in own.items()}
    if kind.window:
        found["dense_2.weight"] = matrix(2 * WIDTH, WIDTH)
        found["dense_3.weight"] = matrix(WIDTH, 2 * WIDTH)
    if kind.pooling == RANK:
        found["cls.output.weight"] = matrix(2, WIDTH) * np.float32(1.5)
    return found


def _byte_signs() -> list[str]:
    """GPT-2's printable sign of each byte."""
    kept = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(others)) for byte in range(256)]


def _byte_vocab() -> tuple[list[str], list[int]]:
    controls, defined = [END, IM_START, IM_END], [THINK, UNTHINK]
    kinds = gguf.TokenType
    types = [kinds.NORMAL] * 257 + [kinds.CONTROL] * 3 + [kinds.USER_DEFINED] * 2
    return [*_byte_signs(), "Ġc", *controls, *defined], list(map(int, types))


def _sentence_vocab() -> tuple[list[str], list[int]]:
    kinds = gguf.TokenType
    letters = [*"▁abcdefghijklmnopqrstuvwxyz.,?", "▁c"]
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{b:02X}>" for b in range(256)), *letters]
    types = [kinds.CONTROL] * 3 + [kinds.UNKNOWN] + [kinds.BYTE] * 256
    return tokens, [*map(int, types), *([int(kinds.NORMAL)] * len(letters))]


def _rms(x: Floats, weight: Floats) -> Floats:
    scale = np.sqrt((x * x).mean(-1, keepdims=True) + EPS)
    return np.asarray(x / scale * weight, np.float32)


def _turned(x: Floats, base: float) -> Floats:
    """Rotary positions, halves apart. Shape (tokens, heads, HEAD)."""
    half = HEAD // 2
    angles = np.arange(len(x))[:, None] * base ** (-np.arange(half) / half)[None, :]
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = x[..., :half], x[..., half:]
    turned = (first * cos - second * sin, first * sin + second * cos)
    return np.asarray(np.concatenate(turned, -1), np.float32)


def _gelu(x: Floats) -> Floats:
    """By tanh, as Gemma has it."""
    return np.asarray(x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
