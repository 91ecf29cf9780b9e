"""Headers, good and crafted: what is read, what is refused, and in which words."""

import os
import random
import struct
import sys
from functools import partial
from pathlib import Path

import pytest

from llmchat.errors import ModelFileError
from llmchat.gguf import BigArray, check_loadable, describe, kv_bytes, read_header, read_ranges
from tests.unit.gguf.crafted import ARRAY, F32, STRING, U8, U32, gguf, string, tensor


@pytest.fixture
def write(tmp_path: Path):
    def write(data: bytes, name: str = "model.gguf") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def piece(data: bytes, offset: int, length: int) -> bytes:
    return data[offset : offset + length]


def refused(path: Path, key: str) -> ModelFileError:
    with pytest.raises(ModelFileError) as caught:
        check_loadable(path)
    assert caught.value.key == f"gguf.{key}"
    assert path.name in caught.value.sentence
    assert "\n" not in caught.value.sentence
    return caught.value


def test_a_header_is_read(write):
    header = check_loadable(write(gguf()))
    assert header.architecture == "llama"
    assert header.tensors[0].shape == (32, 2)
    assert header.tensors[0].size == 256
    assert header.file_size - header.data_offset == 256
    tokens = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, BigArray)
    assert tokens.count == 300


def test_a_description(write):
    about = describe(read_header(write(gguf())))
    assert (about.name, about.quantization, about.n_layers) == ("Crafted", "Q4_K_M", 2)
    assert (about.n_head, about.n_head_kv, about.head_size_k) == (4, 2, 8)
    assert (about.parameters, about.n_vocab, about.n_ctx_train) == (64, 300, 512)


def test_ranges_read_the_same_and_little(write):
    path = write(gguf(data=1 << 20, tensors=[tensor("a", (1 << 18,), 0, 0)]))
    data: bytes = path.read_bytes()
    asked = 0

    def fetch(offset: int, length: int) -> bytes:
        nonlocal asked
        asked += length
        return data[offset : offset + length]

    assert read_ranges(fetch, len(data), "model.gguf") == read_header(path)
    assert asked < 600_000


@pytest.mark.model
def test_the_starter(starter):
    header = check_loadable(starter)
    about = describe(header)
    assert (about.architecture, about.quantization, about.parameters) == (
        "llama", "Q4_1", 134_515_008,
    )  # fmt: skip
    assert (about.n_layers, about.n_head, about.n_head_kv, about.n_vocab) == (30, 9, 3, 49152)
    assert about.capabilities == ("chat",)
    # llama.cpp's own allocation.
    assert kv_bytes(header, 4096) == 90 << 20
    assert kv_bytes(header, 32768) == 720 << 20
    assert kv_bytes(header, 32768, "q8_0", "q8_0") == 401_080_320


GEMMA = {
    "general.architecture": "gemma3",
    "gemma3.block_count": 18,
    "gemma3.embedding_length": 640,
    "gemma3.attention.head_count": 4,
    "gemma3.attention.head_count_kv": 1,
    "gemma3.attention.key_length": 256,
    "gemma3.attention.value_length": 256,
    "gemma3.attention.sliding_window": 512,
}


def test_kv_of_a_sliding_window(write):
    header = read_header(write(gguf(GEMMA)))
    assert kv_bytes(header, 32768, swa_full=True) == 576 << 20, "as llama.cpp allocates"
    assert kv_bytes(header, 32768) == 111 << 20
    assert "swa" in describe(header).capabilities


def test_kv_of_a_hybrid_counts_layers_with_attention(write):
    hybrid = {
        "general.architecture": "lfm2",
        "lfm2.block_count": 4,
        "lfm2.embedding_length": 32,
        "lfm2.attention.head_count": 4,
        "lfm2.attention.head_count_kv": [0, 2, 0, 2],
    }
    header = read_header(write(gguf(hybrid)))
    assert kv_bytes(header, 256) == 2 * 256 * 2 * (8 + 8) * 2
    assert "hybrid" in describe(header).capabilities


@pytest.mark.parametrize(
    ("changes", "capability"),
    [
        ({"general.architecture": "bert", "bert.pooling_type": 1}, "embedding"),
        ({"general.architecture": "qwen3", "qwen3.pooling_type": 4}, "rerank"),
        ({"general.architecture": "qwen3", "qwen3.pooling_type": 3}, "embedding"),
        ({"general.architecture": "clip", "clip.has_vision_encoder": True}, "vision"),
        ({"general.architecture": "mamba"}, "recurrent"),
        ({"llama.expert_count": 8}, "experts"),
        ({"tokenizer.chat_template": "{{ tools }}<think>"}, "thinking"),
        ({"tokenizer.chat_template": "{{ tools }}<think>"}, "tools"),
    ],
)
def test_capabilities(write, changes, capability):
    assert capability in describe(read_header(write(gguf(changes)))).capabilities


@pytest.mark.parametrize("pooling", [0, 2**32 - 1])
def test_a_pooling_type_that_pools_nothing_is_a_chat_models(write, pooling):
    template = {"tokenizer.chat_template": "{{ tools }}<think>"}
    header = read_header(write(gguf({"llama.pooling_type": pooling, **template})))
    assert describe(header).capabilities == ("chat", "thinking", "tools")


@pytest.mark.parametrize(("pooling", "does"), [(3, "embedding"), (4, "rerank")])
def test_the_chat_template_of_what_it_was_made_of_is_not_its_own(write, pooling, does):
    template = {"tokenizer.chat_template": "{{ tools }}<think>"}
    header = read_header(write(gguf({"llama.pooling_type": pooling, **template})))
    assert describe(header).capabilities == (does,)


BIG = 2**62
CRAFTED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "incomplete"),
    "two bytes": (b"GG", "incomplete"),
    "magic only": (b"GGUF", "incomplete"),
    "wrong magic": (gguf(magic=b"GGML"), "not_gguf"),
    "version 0": (gguf(version=0), "version"),
    "version 1": (gguf(version=1), "version"),
    "version 4": (gguf(version=4), "version"),
    "big endian": (gguf(version=3 << 24), "big_endian"),
    "2^62 keys": (gguf(n_keys=BIG), "out_of_bounds"),
    "2^62 tensors": (gguf(n_tensors=BIG), "out_of_bounds"),
    "more keys than there are": (gguf(n_keys=5000), "out_of_bounds"),
    "a key of 2^62 bytes": (gguf(extra=struct.pack("<Q", BIG), n_keys=11), "out_of_bounds"),
    "a text of 2^63 bytes": (
        gguf({"general.name": struct.pack("<IQ", STRING, 1 << 63)}), "out_of_bounds"),
    "an unknown type": (gguf({"general.name": struct.pack("<I", 13)}), "out_of_bounds"),
    "an array of 2^62 texts": (
        gguf({"x": struct.pack("<IIQ", ARRAY, STRING, BIG)}), "out_of_bounds"),
    "an array of 2^62 numbers": (
        gguf({"x": struct.pack("<IIQ", ARRAY, F32, BIG)}), "out_of_bounds"),
    "an array of 2^39 bytes": (gguf({"x": struct.pack("<IIQ", ARRAY, U8, 2**39)}), "incomplete"),
    "arrays in arrays": (
        gguf({"x": struct.pack("<IIQ", ARRAY, ARRAY, 1) + struct.pack("<IQ", U32, 0)}),
        "out_of_bounds"),
    "a key twice": (gguf(extra=string("general.name") + struct.pack("<II", U32, 1), n_keys=11),
                    "duplicate"),
    "alignment 0": (gguf({"general.alignment": 0}), "out_of_bounds"),
    "alignment 3": (gguf({"general.alignment": 3}), "out_of_bounds"),
    "alignment 2^31": (gguf({"general.alignment": 1 << 31}), "out_of_bounds"),
    "alignment as text": (gguf({"general.alignment": "32"}), "out_of_bounds"),
    "no dimensions": (gguf(tensors=[tensor("a", (), 0, 0)]), "out_of_bounds"),
    "five dimensions": (gguf(tensors=[tensor("a", (1,) * 5, 0, 0)]), "out_of_bounds"),
    "2^32 - 1 dimensions": (
        gguf(tensors=[string("a") + struct.pack("<I", 2**32 - 1)]), "out_of_bounds"),
    "a dimension of 0": (gguf(tensors=[tensor("a", (32, 0), 0, 0)]), "out_of_bounds"),
    "dimensions that overflow": (
        gguf(tensors=[tensor("a", (2**32, 2**32, 2**32), 0, 0)]), "out_of_bounds"),
    "an unknown number format": (gguf(tensors=[tensor("a", (32,), 99, 0)]), "unknown_type"),
    "a removed number format": (gguf(tensors=[tensor("a", (32,), 4, 0)]), "unknown_type"),
    "half a block": (gguf(tensors=[tensor("a", (31,), 2, 0)]), "out_of_bounds"),
    "a tensor beyond the end": (gguf(tensors=[tensor("a", (1024,), 0, 0)]), "incomplete"),
    "an offset of 2^62": (gguf(tensors=[tensor("a", (32,), 0, BIG)]), "out_of_bounds"),
    "an offset that is not aligned": (gguf(tensors=[tensor("a", (32,), 0, 7)]), "out_of_bounds"),
    "overlapping tensors": (
        gguf(tensors=[tensor("a", (32,), 0, 0), tensor("b", (32,), 0, 0)]), "out_of_bounds"),
    "a tensor twice": (
        gguf(tensors=[tensor("a", (32,), 0, 0), tensor("a", (32,), 0, 128)]), "duplicate"),
    "a name of 64 bytes": (gguf(tensors=[tensor("a" * 64, (32,), 0, 0)]), "out_of_bounds"),
    "no architecture": (gguf({"general.architecture": None}), "not_a_model"),
    "architecture as a number": (gguf({"general.architecture": 7}), "not_a_model"),
    "no tensors": (gguf(tensors=[]), "not_a_model"),
    "0 layers": (gguf({"llama.block_count": 0}), "not_a_model"),
    "2^32 - 1 layers": (gguf({"llama.block_count": 2**32 - 1}), "not_a_model"),
    "100,000 layers": (gguf({"llama.block_count": 100_000}), "not_a_model"),
    "no embedding length": (gguf({"llama.embedding_length": 0}), "not_a_model"),
    "a token twice": (
        gguf({"tokenizer.ggml.tokens": [f"t{n % 299}" for n in range(300)]}), "duplicate"),
    "a token twice of few": (gguf({"tokenizer.ggml.tokens": ["a", "b", "a"]}), "not_a_model"),
    "fewer scores than tokens": (gguf({"tokenizer.ggml.scores": [1, 2, 3]}), "not_a_model"),
    "a special token as text": (gguf({"tokenizer.ggml.bos_token_id": "1"}), "not_a_model"),
    "a later shard": (gguf({"split.no": 1, "split.count": 2}), "not_a_model"),
    "a first shard of another name": (gguf({"split.no": 0, "split.count": 2}), "not_a_model"),
    "a web page": (b"\r\n<!DOCTYPE html><html><title>404</title></html>", "is_web_page"),
    "a zip archive": (b"PK\x03\x04" + bytes(100), "is_zip"),
    "a pickle": (b"\x80\x02}q\x00." + bytes(100), "is_pickle"),
    "safetensors": (struct.pack("<Q", 40) + b'{"__metadata__":{}}' + bytes(60), "is_safetensors"),
    "a git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid x", "is_pointer"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "key"), CRAFTED.values(), ids=CRAFTED.keys())
def test_crafted_headers_are_refused_in_one_sentence(write, data, key):
    refused(write(data), key)


def test_empty_tokens_may_repeat(write):
    check_loadable(write(gguf({"tokenizer.ggml.tokens": ["", "", *(f"t{n}" for n in range(300))]})))


def test_texts_from_the_file_are_clean_in_the_sentence(write):
    name = "evil\x1b]0;title\x07\u202e.gguf"
    error = refused(write(gguf(tensors=[tensor("\x1b[31mred", (31,), 2, 0)]), name="x.gguf"),
                    "out_of_bounds")  # fmt: skip
    assert "\x1b" not in error.sentence
    with pytest.raises(ModelFileError) as caught:
        read_ranges(lambda offset, length: b"", 0, name)
    assert "\x1b" not in caught.value.sentence
    assert "\u202e" not in caught.value.sentence


def test_metadata_that_is_no_text_is_still_read(write):
    path = write(gguf({"general.name": struct.pack("<I", STRING) + string(b"\xff\xfe\x80")}))
    assert describe(read_header(path)).name == "\ufffd\ufffd\ufffd"


def test_shards_must_lie_beside_the_first(write):
    data = gguf({"split.no": 0, "split.count": 2})
    first = write(data, "m-00001-of-00002.gguf")
    assert "m-00002-of-00002.gguf" in refused(first, "missing_shard").sentence
    write(data, "m-00002-of-00002.gguf")
    assert check_loadable(first).shards == 2


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    fifo = tmp_path / "fifo.gguf"
    os.mkfifo(fifo)
    loop = tmp_path / "loop.gguf"
    loop.symlink_to(loop)
    folder = tmp_path / "folder.gguf"
    folder.mkdir()
    for path in (fifo, folder, Path("/dev/zero")):
        refused(path, "not_a_file")
    refused(loop, "unreadable")
    refused(tmp_path / "nowhere.gguf", "unreadable")
    with pytest.raises(ModelFileError):
        read_header("nul\0.gguf")


def test_every_prefix_is_incomplete(write):
    whole = gguf()
    assert len(whole) > 4096
    for length in [*range(4096), *range(4096, len(whole), 17)]:
        part = whole[:length]
        with pytest.raises(ModelFileError) as caught:
            read_ranges(partial(piece, part), length, "m.gguf")
        assert caught.value.key == "gguf.incomplete", length
    refused(write(whole[:4000]), "incomplete")


@pytest.mark.model
def test_two_hundred_truncations_of_a_real_model(starter):
    """C4: wherever a real file was cut, it is incomplete, and never anything else."""
    draw = random.Random(20261)
    size = starter.stat().st_size
    cuts = [draw.randrange(size) for _ in range(40)] + [
        draw.randrange(1_785_664) for _ in range(160)
    ]
    with starter.open("rb") as file:
        for length in cuts:

            def fetch(offset: int, count: int, end: int = length) -> bytes:
                return os.pread(file.fileno(), max(0, min(count, end - offset)), offset)

            with pytest.raises(ModelFileError) as caught:
                read_ranges(fetch, length, "m.gguf")
            assert caught.value.key == "gguf.incomplete", length
    sys.stdout.write(f"C4: {len(cuts)} of {len(cuts)} truncations are incomplete files\n")


def test_a_file_that_shrinks_while_it_is_read_is_incomplete():
    whole = gguf()
    with pytest.raises(ModelFileError) as caught:
        read_ranges(lambda offset, length: whole[offset : min(offset + length, 900)],
                    len(whole), "m.gguf")  # fmt: skip
    assert caught.value.key == "gguf.incomplete"
