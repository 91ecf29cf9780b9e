"""LoRA adapters and control vectors over a written model: what they compute, who shares what."""

from collections.abc import Iterator
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest

from llmchat.engine.protocol import Delta, Finished, Generate, RawTokens, Scaled
from llmchat.errors import EngineError
from llmchat.values import Sampling, Wants
from tests.engine.worker import tiny
from tests.engine.worker.driver import Asked, Driver

PROMPT = tuple(range(10, 74))
GREEDY = Sampling(temperature=0.0, seed=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    tiny.write_model(folder / "base.gguf", tiny.weights())
    tiny.write_lora(folder / "lora.gguf")
    tiny.write_vector(folder / "vector.gguf")
    return folder


@pytest.fixture(scope="module")
def base(files: Path) -> Iterator[Driver]:
    wants = Wants(
        n_ctx=512,
        n_threads=1,
        lora=(str(files / "lora.gguf"),),
        control_vectors=(str(files / "vector.gguf"),),
    )
    driver = Driver(files / "base.gguf", wants)
    yield driver
    driver.close()


def request(
    lora: tuple[Scaled, ...] = (), vectors: tuple[Scaled, ...] = (), first: int = 9
) -> Generate:
    """Another `first` token makes a prompt that nobody has read."""
    return Generate(
        prompt=RawTokens(tokens=(first, *PROMPT)),
        sampling=GREEDY,
        max_tokens=12,
        ignore_eos=True,
        top_logprobs=8,
        lora=lora,
        control_vectors=vectors,
    )


def heard(asked: Asked) -> tuple[list[int], np.ndarray]:
    """Tokens, and the log probabilities of their rivals."""
    infos = [
        info for event in asked.wait().events if isinstance(event, Delta) for info in event.tokens
    ]
    rivals = [[rival.logprob for rival in info.rivals] for info in infos]
    return [info.token for info in infos], np.array(rivals)


def alone(path: Path, asked: Generate) -> tuple[list[int], np.ndarray]:
    driver = Driver(path, Wants(n_ctx=512, n_threads=1))
    try:
        return heard(driver.ask(asked))
    finally:
        driver.close()


@pytest.mark.parametrize("scale", [1.0, 0.5, -0.25])
def test_an_adapter_computes_what_merged_weights_do(base: Driver, files: Path, scale):
    lora = (Scaled(path=str(files / "lora.gguf"), scale=scale),)
    tokens, rivals = heard(base.ask(request(lora)))
    merged = tiny.write_model(files / f"merged{scale}.gguf", tiny.merged(scale))
    expected_tokens, expected = alone(merged, request())
    assert tokens == expected_tokens
    np.testing.assert_allclose(rivals, expected, atol=2e-3)
    assert tokens != heard(base.ask(request()))[0]


def test_scale_0_is_the_model_itself_bit_for_bit(files: Path):
    path = str(files / "lora.gguf")
    against = (Scaled(path=path), Scaled(path=path, scale=-1.0))
    plain_tokens, plain = alone(files / "base.gguf", request())
    for lora in ((), (Scaled(path=path, scale=0.0),), against):
        driver = Driver(files / "base.gguf", Wants(n_ctx=512, n_threads=1, lora=(path,)))
        try:
            tokens, rivals = heard(driver.ask(request(lora)))
            driver.ask(request((Scaled(path=path),))).wait()
            _, after = heard(driver.ask(request(lora, first=100)))
        finally:
            driver.close()
        assert tokens == plain_tokens
        np.testing.assert_array_equal(rivals, plain)
        # Beside other sequences in the pool, sums come in another order.
        _, other = alone(files / "base.gguf", request(first=100))
        np.testing.assert_allclose(after, other, atol=2e-3)


def test_two_scales_at_once_do_not_mix(base: Driver, files: Path):
    path = str(files / "lora.gguf")
    wishes = [request((Scaled(path=path, scale=scale),)) for scale in (1.0, -1.0)] + [request()]
    apart = [heard(base.ask(wish)) for wish in wishes]
    together = [base.ask(wish) for wish in wishes]
    for (tokens, rivals), asked in zip(apart, together, strict=True):
        found, others = heard(asked)
        assert found == tokens
        # Read anew or from memory: the rows differ by the noise of half floats.
        np.testing.assert_allclose(others, rivals, atol=0.03)
    assert len({tuple(tokens) for tokens, _ in apart}) == 3


def test_a_prefix_is_reused_under_the_same_adapters_only(files: Path):
    path = str(files / "lora.gguf")
    driver = Driver(files / "base.gguf", Wants(n_ctx=512, n_threads=1, lora=(path,)))
    try:

        def from_memory(*lora: Scaled) -> int:
            finished = driver.ask(request(lora)).wait().finished()
            assert isinstance(finished, Finished)
            # The ids of the reply are the model's own, whatever the memory calls them.
            assert all(0 <= token < tiny.VOCAB for token in finished.tokens)
            return finished.usage.from_memory

        assert from_memory() == 0
        assert from_memory(Scaled(path=path)) == 0
        assert from_memory(Scaled(path=path, scale=0.5)) == 0
        assert from_memory(Scaled(path=path)) == len(PROMPT)
        assert from_memory() == len(PROMPT)
        assert from_memory(Scaled(path=path), Scaled(path=path, scale=-1.0)) == len(PROMPT)
    finally:
        driver.close()


def test_a_control_vector_moves_the_model_and_leaves_no_trace(base: Driver, files: Path):
    path = str(files / "vector.gguf")
    pushed, _ = heard(base.ask(request(vectors=(Scaled(path=path, scale=2.0),))))
    pulled, _ = heard(base.ask(request(vectors=(Scaled(path=path, scale=-2.0),))))
    after = heard(base.ask(request(first=110)))
    plain = alone(files / "base.gguf", request(first=110))
    assert pushed != after[0] != pulled
    assert after[0] == plain[0]
    np.testing.assert_allclose(after[1], plain[1], atol=1e-3)


def test_a_control_vector_is_added_where_it_says(base: Driver, files: Path):
    """Behind the last layer: large enough, it is all that norm and head see, whatever was asked."""
    vector = (Scaled(path=str(files / "vector.gguf"), scale=1000.0),)
    _, rivals = heard(base.ask(request(vectors=vector)))
    direction = np.random.default_rng(5).standard_normal(tiny.WIDTH).astype(np.float32)
    logits = tiny.weights()["output.weight"] @ (direction / np.sqrt((direction**2).mean()))
    expected = np.sort(logits - np.log(np.exp(logits).sum()))[::-1][:8]
    np.testing.assert_allclose(rivals, np.tile(expected, (12, 1)), atol=0.05)


def test_what_was_not_loaded_and_what_is_no_number_is_one_sentence(base: Driver, files: Path):
    for lora, words in (
        (Scaled(path=str(files / "other.gguf")), "other.gguf is not loaded"),
        (Scaled(path=str(files / "lora.gguf"), scale=float("nan")), "scale cannot be nan"),
        (Scaled(path=str(files / "lora.gguf"), scale=1e9), "scale cannot be"),
    ):
        assert words in base.ask(request((lora,))).wait().failed().message
    assert heard(base.ask(request()))[0]


def _wrong_shape(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 1.0)
    for end, shape in (("lora_a", (4, 32)), ("lora_b", (64, 4))):
        writer.add_tensor(f"blk.0.attn_q.weight.{end}", np.ones(shape, np.float32))
    return tiny.finish(writer, path)


def _stored(path: Path, alpha: float, kind: gguf.GGUFValueType, tensors: type) -> Path:
    """An adapter that llama.cpp would end its process over, or compute nothing but NaN with."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_key_value("adapter.lora.alpha", alpha, kind)
    for number, values in enumerate(tiny.pair("blk.0.attn_q.weight")):
        writer.add_tensor(f"blk.0.attn_q.weight.lora_{'ab'[number]}", values.astype(tensors))
    return tiny.finish(writer, path)


F32, F64 = gguf.GGUFValueType.FLOAT32, gguf.GGUFValueType.FLOAT64


@pytest.mark.parametrize(
    ("alpha", "kind", "tensors", "words"),
    [
        (8.0, F64, np.float32, "adapter.lora.alpha is float64"),
        (float("nan"), F32, np.float32, "adapter.lora.alpha is nan"),
        (8.0, F32, np.int32, "blk.0.attn_q.weight.lora_a is i32"),
        (8.0, F32, np.float64, "blk.0.attn_q.weight.lora_a is f64"),
    ],
)
def test_an_adapter_that_would_end_llama_cpp_is_refused(files: Path, alpha, kind, tensors, words):
    path = _stored(files / "kills.gguf", alpha, kind, tensors)
    with pytest.raises(EngineError) as caught:
        Driver(files / "base.gguf", Wants(n_ctx=512, lora=(str(path),)))
    assert caught.value.sentence.startswith(f"kills.gguf cannot be used: {words}")
    assert "convert_lora_to_gguf.py" in (caught.value.hint or "")


def test_an_adapter_counts_in_the_plan_as_what_it_takes(files: Path):
    wants = Wants(n_ctx=512, n_threads=1)
    lora, vector = str(files / "lora.gguf"), str(files / "vector.gguf")
    with_lora = msgspec.structs.replace(wants, lora=(lora,))
    with_both = msgspec.structs.replace(with_lora, control_vectors=(vector, vector))
    found = []
    for each in (wants, with_lora, with_both):
        driver = Driver(files / "base.gguf", each)
        driver.close()
        assert driver.plan is not None
        assert sum(driver.facts.memory.values()) == sum(driver.plan.needs.values())
        found.append((driver.plan.needs["CPU"], driver.facts.memory))
    numbers = sum(a.size + b.size for a, b in map(tiny.pair, tiny.CHANGED))
    assert found[1][0] - found[0][0] == 4 * numbers
    assert found[1][1] == found[0][1] | {"adapters": 4 * numbers}
    row = 4 * tiny.WIDTH * (tiny.LAYERS - 1)  # in the context, and as it was read
    assert found[2][0] - found[1][0] == 2 * row
    assert found[2][1] == found[0][1] | {"adapters": 4 * numbers + 2 * row}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "base.gguf", "base.gguf is not a LoRA adapter"),
        (lambda folder: folder / "nothing.gguf", "nothing.gguf"),
        (lambda folder: tiny.write_lora(folder / "g.gguf", "gemma3"), "made for gemma3 models"),
        (lambda folder: tiny.write_lora(folder / "k.gguf", kind="dora"), "is not a LoRA adapter"),
        (lambda folder: _wrong_shape(folder / "w.gguf"), "incorrect shape"),
    ],
    ids=["a model", "not there", "another architecture", "another kind", "another shape"],
)
def test_a_wrong_adapter_is_one_sentence_and_no_crash(files: Path, make, words):
    path = make(files)
    with pytest.raises(EngineError) as caught:
        Driver(files / "base.gguf", Wants(n_ctx=512, lora=(str(path),)))
    assert words in caught.value.sentence


def test_a_truncated_adapter_is_refused(files: Path):
    whole = tiny.write_lora(files / "whole.gguf").read_bytes()
    cut = files / "cut.gguf"
    cut.write_bytes(whole[: len(whole) - 200])
    with pytest.raises(EngineError, match=r"cut\.gguf"):
        Driver(files / "base.gguf", Wants(n_ctx=512, lora=(str(cut),)))


@pytest.mark.parametrize(
    ("width", "layers", "words"),
    [(32, 2, "made for another model"), (64, 9, "made for another model"), (64, 1, "no control")],
)
def test_a_control_vector_of_another_model_is_refused(files: Path, width, layers, words):
    path = tiny.write_vector(files / f"v{width}-{layers}.gguf", width, layers)
    with pytest.raises(EngineError) as caught:
        Driver(files / "base.gguf", Wants(n_ctx=512, control_vectors=(str(path),)))
    assert words.replace("no control", "is not a control vector") in caught.value.sentence
