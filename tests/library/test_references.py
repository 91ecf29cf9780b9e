"""What people type, taken apart: every spelling that other programs taught them."""

import pytest

from llmchat.errors import UsageError
from llmchat.library.references import is_repo, parse_reference

REPO = "bartowski/Qwen3-8B-GGUF"


@pytest.mark.parametrize(
    ("text", "repo", "selector", "revision"),
    [
        (REPO, REPO, "", ""),
        (f"{REPO}:Q4_K_M", REPO, "Q4_K_M", ""),
        (f"{REPO}@q4_k_m", REPO, "q4_k_m", ""),
        (f"{REPO}:Qwen3-8B-Q4_K_M.gguf", REPO, "Qwen3-8B-Q4_K_M.gguf", ""),
        (f"{REPO}:Q8_0/Qwen3-8B-Q8_0.gguf", REPO, "Q8_0/Qwen3-8B-Q8_0.gguf", ""),
        (f"hf.co/{REPO}:Q4_K_M", REPO, "Q4_K_M", ""),
        (f"HF.co/{REPO}", REPO, "", ""),
        (f"huggingface.co/{REPO}", REPO, "", ""),
        (f"https://huggingface.co/{REPO}", REPO, "", ""),
        (f"https://huggingface.co/{REPO}/", REPO, "", ""),
        (f"https://huggingface.co/{REPO}@Q6_K", REPO, "Q6_K", ""),
        (f"https://huggingface.co/{REPO}/blob/main/a/b.gguf", REPO, "a/b.gguf", "main"),
        (f"https://huggingface.co/{REPO}/resolve/v1/b.gguf?download=true", REPO, "b.gguf", "v1"),
        (f"https://hf.co/{REPO}/tree/dev", REPO, "", "dev"),
        (f"hf://{REPO}", REPO, "", ""),
        (f"hf://{REPO}/file.gguf", REPO, "file.gguf", ""),
        (f"huggingface://{REPO}:Q8_0", REPO, "Q8_0", ""),
        (f"  {REPO}:Q8_0 ", REPO, "Q8_0", ""),
    ],
)
def test_repositories(text, repo, selector, revision):
    reference = parse_reference(text)
    assert reference.kind == "repo"
    assert (reference.repo, reference.selector, reference.revision) == (repo, selector, revision)


@pytest.mark.parametrize(
    "text",
    ["./model", "../m.gguf", "/tmp/m.gguf", "~/m.gguf", "m.gguf", "M.GGUF", "dir/m.gguf", "."],
)
def test_local_files(text):
    reference = parse_reference(text)
    assert (reference.kind, reference.path) == ("file", text)


def test_file_address():
    assert parse_reference("file:///tmp/a%20b.gguf").path == "/tmp/a b.gguf"


@pytest.mark.parametrize(
    ("text", "word", "selector"),
    [
        ("smollm2:135m", "smollm2:135m", ""),
        ("qwen3", "qwen3", ""),
        ("qwen3:8b@q8_0", "qwen3:8b", "q8_0"),
    ],
)
def test_words(text, word, selector):
    reference = parse_reference(text)
    assert (reference.kind, reference.word, reference.selector) == ("word", word, selector)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "library.bad_reference"),
        ("   ", "library.bad_reference"),
        ("a\x1b]52;c;x\x07b", "library.bad_reference"),
        ("x" * 5000, "library.bad_reference"),
        ("owner/", "library.bad_reference"),
        ("owner/..", "library.bad_reference"),
        ("own er/name", "library.bad_reference"),
        ("owner/name.git", "library.bad_reference"),
        (f"{REPO}:Q4_K_M@Q8_0", "library.two_selectors"),
        (f"{REPO}@a@b", "library.two_selectors"),
        (f"{REPO}:", "library.two_selectors"),
        (f"https://huggingface.co/{REPO}/blob/main/a.gguf:Q4_K_M", "library.two_selectors"),
        ("word@a@b", "library.two_selectors"),
        ("https://example.org/m.gguf", "library.foreign_address"),
        ("ollama://qwen3:8b", "library.foreign_address"),
        ("https://huggingface.co.evil.test/a/b", "library.foreign_address"),
    ],
)
def test_refused(text, key):
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert caught.value.key == key
    assert caught.value.sentence


def test_repo_names_follow_the_hub():
    assert is_repo("a/b")
    assert is_repo("TheBloke/Llama-2-7B-GGUF")
    for bad in ("a", "a/b/c", "a//b", "/b", "a/", "a/b--c", "a/b..c", "-a/b", "a/b.", "a/b.git"):
        assert not is_repo(bad), bad
