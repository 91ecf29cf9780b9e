"""BERT models for tests: written as GGUF, and computed again in NumPy without llama.cpp.

The reference implementation follows the original paper and its WordPiece tokenizer; it shares no
code with the engine.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
CLS, SEP, UNK = 101, 102, 100
MEAN, RANK = 1, 4
_CONTROL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Bert:
    """Weights by their names in the original files, and a vocabulary."""

    def __init__(self, weights: Mapping[str, Floats], vocab: Sequence[str], n_head: int) -> None:
        self.weights = weights
        self.vocab = vocab
        self.ids = {word: number for number, word in enumerate(vocab)}
        self.n_head = n_head
        names = [name for name in weights if name.endswith("attention.self.query.weight")]
        self.n_layer = len(names)

    # text to ids

    def tokenize(self, text: str) -> list[int]:
        """Ids without [CLS] and [SEP], lower case and without accents."""
        ids: list[int] = []
        for word in _words(text):
            ids += self._pieces(word)
        return ids

    def _pieces(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if prefix + word[start:e] in self.ids), None)
            if end is None:
                return [UNK]
            found.append(self.ids[prefix + word[start:end]])
            start = end
        return found

    # ids to vectors

    def hidden(self, ids: Sequence[int]) -> Floats:
        """The last layer. Shape (len(ids), n_embd)."""
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][list(ids)]
        x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(self.n_layer):
            at = f"encoder.layer.{layer}."
            x = self._norm(x + self._attend(x, at), at + "attention.output.LayerNorm")
            up = _gelu(self._linear(x, at + "intermediate.dense"))
            x = self._norm(x + self._linear(up, at + "output.dense"), at + "output.LayerNorm")
        return x

    def embed(self, text: str) -> Floats:
        """The mean of all tokens, of length 1."""
        mean = self.hidden([CLS, *self.tokenize(text), SEP]).mean(0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    def score(self, query: str, document: str) -> float:
        """What the classifier says of [CLS] query [SEP] document [SEP]."""
        first = [CLS, *self.tokenize(query), SEP]
        first_token = self.hidden([*first, *self.tokenize(document), SEP])[0]
        pooled = np.tanh(self._linear(first_token, "pooler.dense"))
        return float(self._linear(pooled, "classifier")[0])

    def _linear(self, x: Floats, name: str) -> Floats:
        return np.asarray(x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"])

    def _norm(self, x: Floats, name: str) -> Floats:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return np.asarray(scaled * self.weights[name + ".weight"] + self.weights[name + ".bias"])

    def _attend(self, x: Floats, at: str) -> Floats:
        n, width = x.shape
        heads = (n, self.n_head, width // self.n_head)
        q, k, v = (
            self._linear(x, f"{at}attention.self.{name}").reshape(heads).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        weights = q @ k.transpose(0, 2, 1) / np.sqrt(heads[2])
        weights = np.exp(weights - weights.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        mixed = mixed.transpose(1, 0, 2).reshape(n, width)
        return self._linear(mixed, at + "attention.output.dense")

    # to a file

    def write(self, path: Path, *, pooling: int = MEAN, half: bool = True) -> None:
        """As llama.cpp's converter writes it (`BertModel` of convert_hf_to_gguf.py)."""
        part = path.with_suffix(".part")
        writer = gguf.GGUFWriter(str(part), "bert")
        words = self.weights["embeddings.word_embeddings.weight"]
        positions = self.weights["embeddings.position_embeddings.weight"]
        writer.add_name(path.stem)
        writer.add_block_count(self.n_layer)
        writer.add_context_length(positions.shape[0])
        writer.add_embedding_length(words.shape[1])
        up = self.weights["encoder.layer.0.intermediate.dense.weight"]
        writer.add_feed_forward_length(up.shape[0])
        writer.add_head_count(self.n_head)
        writer.add_layer_norm_eps(1e-12)
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType(pooling))
        self._write_vocab(writer)
        for name, values in self.weights.items():
            plain = name.endswith(".weight") and "Norm" not in name and "classifier" not in name
            keep = half and plain and "position" not in name and "token_type" not in name
            writer.add_tensor(_named(name), values.astype(np.float16 if keep else np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.replace(path)

    def _write_vocab(self, writer: Any) -> None:
        writer.add_tokenizer_model("bert")
        writer.add_token_type_count(2)
        writer.add_token_list([_phantom(word) for word in self.vocab])
        kinds = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL)
        writer.add_token_types([kinds[word in _CONTROL] for word in self.vocab])
        writer.add_bos_token_id(CLS)
        writer.add_sep_token_id(SEP)
        writer.add_unk_token_id(UNK)
        writer.add_pad_token_id(0)


def _phantom(word: str) -> str:
    """llama.cpp marks where a word begins, not where it goes on."""
    if word in _CONTROL:
        return word
    return word[2:] if word.startswith("##") else "▁" + word


_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
    "pooler.dense": "cls",
    "classifier": "cls.output",
}


def _named(name: str) -> str:
    rest, _, kind = name.rpartition(".")
    if not rest.startswith("encoder.layer."):
        return f"{_NAMES[rest]}.{kind}"
    layer, _, inner = rest.removeprefix("encoder.layer.").partition(".")
    return f"blk.{layer}.{_NAMES[inner]}.{kind}"


def _words(text: str) -> list[str]:
    decomposed = unicodedata.normalize("NFD", text.lower())
    spaced = ""
    for character in decomposed:
        category = unicodedata.category(character)
        if category == "Mn":
            continue
        alone = category.startswith("P") or character in "$+<=>^`|~" or "一" <= character <= "鿿"
        spaced += f" {character} " if alone else character
    return spaced.split()


def _gelu(x: Floats) -> Floats:
    """With erf, as BERT has it (Abramowitz and Stegun 7.1.26; its error is below 2e-7)."""
    z = np.abs(x) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    powers = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
    erf = 1 - sum(a * t ** (n + 1) for n, a in enumerate(powers)) * np.exp(-(z**2))
    return np.asarray(x * (1 + np.sign(x) * erf) / 2, np.float32)


def read_safetensors(path: Path) -> dict[str, Floats]:
    """Its float32 tensors."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    found: dict[str, Floats] = {}
    for name, about in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__" and about["dtype"] == "F32":
            start, end = (8 + size + offset for offset in about["data_offsets"])
            found[name] = np.frombuffer(data[start:end], "<f4").reshape(about["shape"])
    return found


def tiny_reranker(seed: int = 3) -> Bert:
    """Two layers of random weights with a random head, over a vocabulary of letters."""
    random = np.random.default_rng(seed)
    width, up, n_layer = 64, 128, 2
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocab = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab += [*letters, *(f"##{letter}" for letter in letters), ".", "?"]
    weights: dict[str, Floats] = {}

    def tensor(name: str, *shape: int) -> None:
        weights[name] = random.normal(0, 0.3, shape).astype(np.float32)

    def linear(name: str, n_out: int, n_in: int) -> None:
        tensor(name + ".weight", n_out, n_in)
        tensor(name + ".bias", n_out)

    def norm(name: str) -> None:
        tensor(name + ".bias", width)
        weights[name + ".weight"] = 1 + random.normal(0, 0.1, width).astype(np.float32)

    tensor("embeddings.word_embeddings.weight", len(vocab), width)
    tensor("embeddings.position_embeddings.weight", 96, width)
    tensor("embeddings.token_type_embeddings.weight", 2, width)
    norm("embeddings.LayerNorm")
    for layer in range(n_layer):
        at = f"encoder.layer.{layer}."
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{at}attention.{name}", width, width)
        norm(at + "attention.output.LayerNorm")
        linear(at + "intermediate.dense", up, width)
        linear(at + "output.dense", width, up)
        norm(at + "output.LayerNorm")
    linear("pooler.dense", width, width)
    linear("classifier", 1, width)
    return Bert(weights, vocab, n_head=4)
