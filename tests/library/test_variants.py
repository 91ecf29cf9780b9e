"""Choosing among a repository's files, as real repositories arrange them."""

import pytest

from llmchat.errors import NotFound
from llmchat.library.variants import (
    bits_of,
    choose,
    fixed_choice,
    group,
    kind_of,
    label_of,
    projector_for,
)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen3-8b-q4_k_m.gguf", "Q4_K_M"),
        ("model.Q4_0.gguf", "Q4_0"),
        ("Model.i1-Q4_K_M.gguf", "i1-Q4_K_M"),
        ("Model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Model-UD-IQ2_XXS.gguf", "UD-IQ2_XXS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("gpt-oss-20b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("gemma-3-4b-it-qat-q4_0.gguf", "QAT-Q4_0"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("Model-BF16.gguf", "BF16"),
        ("Model-fp16.gguf", "F16"),
        ("Model-f32.gguf", "F32"),
        ("Model-TQ1_0.gguf", "TQ1_0"),
        ("Model-Q4_0_4_4.gguf", "Q4_0_4_4"),
        ("Q4_K_M/Model-Q4_K_M-00001-of-00002.gguf", "Q4_K_M"),
        ("Q8_0/model-00001-of-00002.gguf", "Q8_0"),
        ("model.gguf", ""),
        ("Qwen3-8B.gguf", ""),
        ("Qwen2.gguf", ""),
    ],
)
def test_labels(path, label):
    assert label_of(path) == label


@pytest.mark.parametrize(
    ("label", "bits"), [("IQ4_XS", 4), ("UD-Q2_K_XL", 2), ("BF16", 16), ("MXFP4", 4), ("", 0)]
)
def test_bits(label, bits):
    assert bits_of(label) == bits


def test_kinds():
    assert kind_of("mmproj-Model-F16.gguf") == "projector"
    assert kind_of("a/Model.mmproj-Q8_0.gguf") == "projector"
    assert kind_of("mtp-Model-Q8_0.gguf") == "drafter"
    assert kind_of("Model.imatrix.gguf") is None
    assert kind_of("README.md") is None
    assert kind_of("Model-Q8_0.gguf") == "model"


PLAIN = {
    "README.md": 1,
    "Model.imatrix.gguf": 5,
    "Model-Q2_K.gguf": 200,
    "Model-Q4_K_M.gguf": 400,
    "Model-UD-Q4_K_XL.gguf": 450,
    "Model-Q8_0.gguf": 800,
    "Q6_K/Model-Q6_K-00001-of-00002.gguf": 300,
    "Q6_K/Model-Q6_K-00002-of-00002.gguf": 310,
    "mmproj-F32.gguf": 60,
    "mmproj-BF16.gguf": 30,
}


def test_groups_shards_and_leaves_out_what_nobody_runs():
    models = {v.label: v for v in group(PLAIN) if v.kind == "model"}
    assert set(models) == {"Q2_K", "Q4_K_M", "UD-Q4_K_XL", "Q8_0", "Q6_K"}
    assert models["Q6_K"].size == 610
    assert models["Q6_K"].files == (
        "Q6_K/Model-Q6_K-00001-of-00002.gguf",
        "Q6_K/Model-Q6_K-00002-of-00002.gguf",
    )


@pytest.mark.parametrize(
    ("selector", "label"),
    [
        ("Q4_K_M", "Q4_K_M"),
        ("q4_k_m", "Q4_K_M"),
        ("q4-k-m", "Q4_K_M"),
        ("q4_k_xl", "UD-Q4_K_XL"),
        ("ud-q4_k_xl", "UD-Q4_K_XL"),
        ("Model-Q8_0.gguf", "Q8_0"),
        ("model-q8_0", "Q8_0"),
        ("Q6_K/Model-Q6_K-00001-of-00002.gguf", "Q6_K"),
    ],
)
def test_selectors(selector, label):
    assert choose(group(PLAIN), selector, repo="o/r").label == label


@pytest.mark.parametrize("selector", ["Q3_K_M", "Q4", "K_M", "mmproj-F32.gguf", "imatrix", "4_K_M"])
def test_no_silent_fall_back(selector):
    if selector == "K_M":
        assert choose(group(PLAIN), selector, repo="o/r").label == "Q4_K_M"
        return
    with pytest.raises(NotFound) as caught:
        choose(group(PLAIN), selector, repo="o/r")
    assert "UD-Q4_K_XL" in caught.value.sentence


def test_an_ambiguous_ending_is_an_error():
    files = {"M-UD-Q4_K_XL.gguf": 1, "M-i1-Q4_K_XL.gguf": 2}
    with pytest.raises(NotFound):
        choose(group(files), "q4_k_xl", repo="o/r")


def test_an_incomplete_set_of_shards_is_no_choice():
    files = {"M-Q8_0-00001-of-00002.gguf": 1, "M-Q4_0.gguf": 2}
    with pytest.raises(NotFound):
        choose(group(files), "Q8_0", repo="o/r")


def test_fixed_rule():
    assert fixed_choice(group(PLAIN), repo="o/r").label == "Q4_K_M"
    rest = {path: size for path, size in PLAIN.items() if "Q4_K_M" not in path}
    assert fixed_choice(group(rest), repo="o/r").label == "Q8_0"
    del rest["Model-Q8_0.gguf"]
    assert fixed_choice(group(rest), repo="o/r").label == "UD-Q4_K_XL"
    assert fixed_choice(group({"only.gguf": 3}), repo="o/r").files == ("only.gguf",)
    with pytest.raises(NotFound):
        fixed_choice(group({"M-Q2_K.gguf": 1, "M-Q3_K_S.gguf": 2}), repo="o/r")
    with pytest.raises(NotFound):
        fixed_choice(group({"README.md": 1}), repo="o/r")


def test_two_files_of_one_label_stay_apart():
    variants = group({"M-Q4_K_M.gguf": 1, "M-Q4_K_M-fp8embed.gguf": 2})
    assert {v.label for v in variants} == {"Q4_K_M", "M-Q4_K_M-fp8embed.gguf"}


def test_projector_by_folder_label_bits_and_kind():
    variants = group(PLAIN)
    chosen = choose(variants, "Q4_K_M", repo="o/r")
    eye = projector_for(chosen, variants)
    assert eye is not None
    assert eye.files == ("mmproj-BF16.gguf",)
    nested = group({"a/M-Q8_0.gguf": 1, "a/mmproj-Q8_0.gguf": 1, "b/mmproj-F16.gguf": 1})
    eye = projector_for(choose(nested, "Q8_0", repo="o/r"), nested)
    assert eye is not None
    assert eye.files == ("a/mmproj-Q8_0.gguf",)
    assert projector_for(choose(variants, "Q8_0", repo="o/r"), group({"M-Q8_0.gguf": 1})) is None
