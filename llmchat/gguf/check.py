"""The pre-flight: what must be true of a file before llama.cpp may see it.

Owns the checks for headers that are well formed and still end llama.cpp's process: too many layers
(src/llama-model.cpp asserts LLAMA_MAX_LAYERS), a token twice in the vocabulary
(src/llama-vocab.cpp asserts that it can be told apart), numbers that are divided by. It reads the
whole vocabulary, so it runs before loading and not while listing. Refuses to judge whether the
model is any good.
"""

import os
from pathlib import Path
from typing import Final

from llmchat.gguf.describe import describe
from llmchat.gguf.reader import BigArray, Header, read_ranges, read_strings
from llmchat.gguf.source import Damaged, Fetch, as_error, open_file

MAX_LAYERS: Final = 512
_TOKENS: Final = "tokenizer.ggml.tokens"
_PER_TOKEN: Final = ("tokenizer.ggml.scores", "tokenizer.ggml.token_type")
_SPECIAL_IDS: Final = ("bos", "eos", "eot", "unknown", "padding", "seperator", "mask")


def check_loadable(path: str | Path) -> Header:
    """The header of a model that llama.cpp may be given.

    Raises:
        ModelFileError: it may not; the sentence names the file and the reason.
    """
    name = Path(path).name
    with open_file(path) as (fetch, size):
        header = read_ranges(fetch, size, name)
        try:
            _check_numbers(header)
            _check_vocabulary(header, fetch, size)
            _check_shards(header, Path(path))
        except Damaged as damage:
            raise as_error(damage, name) from damage
    return header


def _check_numbers(header: Header) -> None:
    if not header.architecture:
        raise Damaged("not_a_model", what="it names no architecture")
    if not header.tensors:
        raise Damaged("not_a_model", what="it holds no weights")
    if header.metadata.get("split.no", 0) != 0:
        raise Damaged("not_a_model", what="it is not the first of its files")
    if header.architecture == "clip":
        return
    about = describe(header)
    if not 0 < about.n_layers <= MAX_LAYERS:
        raise Damaged("not_a_model", what=f"it has {about.n_layers} layers")
    if about.n_embd <= 0:
        raise Damaged("not_a_model", what=f"its embedding length is {about.n_embd}")
    for key in ("attention.head_count", "attention.head_count_kv"):
        value = header.metadata.get(f"{header.architecture}.{key}")
        if isinstance(value, BigArray):
            raise Damaged("not_a_model", what=f"its {key} has {value.count} numbers")


def _check_vocabulary(header: Header, fetch: Fetch, size: int) -> None:
    tokens = header.metadata.get(_TOKENS)
    count = len(tokens) if isinstance(tokens, tuple) else getattr(tokens, "count", 0)
    for key in _PER_TOKEN:
        value = header.metadata.get(key)
        length = len(value) if isinstance(value, tuple) else getattr(value, "count", count)
        if length < count:
            raise Damaged("not_a_model", what=f"{key} has {length} entries for {count} tokens")
    for name in _SPECIAL_IDS:
        value = header.metadata.get(f"tokenizer.ggml.{name}_token_id")
        # llama.cpp ignores ids outside the vocabulary; only their type can hurt.
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise Damaged("not_a_model", what=f"its {name} token is no number")
    if isinstance(tokens, BigArray):
        seen: set[bytes] = set()
        for number, token in enumerate(read_strings(fetch, size, tokens)):
            # llama.cpp names empty tokens by their number, so they differ.
            word = token or b"[EMPTY_%d]" % number
            if word in seen:
                raise Damaged("duplicate", what=f"token {word[:40].decode('utf-8', 'replace')!r}")
            seen.add(word)
    elif isinstance(tokens, tuple):
        words = [token for token in tokens if token != ""]
        if len(set(words)) < len(words):
            raise Damaged("not_a_model", what="a token occurs twice in its vocabulary")


def _check_shards(header: Header, path: Path) -> None:
    count = header.shards
    if count == 1:
        return
    ending = f"-00001-of-{count:05d}.gguf"
    if not path.name.endswith(ending):
        raise Damaged("not_a_model", what=f"it is one of {count} files and not named so")
    stem = path.name.removesuffix(ending)
    for number in range(2, min(count, 10_000) + 1):
        shard = path.with_name(f"{stem}-{number:05d}-of-{count:05d}.gguf")
        if not os.path.isfile(shard):
            raise Damaged("missing_shard", count=count, missing=shard.name)
