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
        # What the other programs' own pages show.
        ("hf.co/bartowski/Llama-3.2-1B-GGUF:latest", "bartowski/Llama-3.2-1B-GGUF", "", ""),
        ("ggml-org/gemma-3-4b-it-GGUF:Q8_0", "ggml-org/gemma-3-4b-it-GGUF", "Q8_0", ""),
        ("qwen/qwen3-8b@q4_k_m", "qwen/qwen3-8b", "q4_k_m", ""),
        ("ai/smollm2", "ai/smollm2", "", ""),
        (f"huggingface://{REPO}/sub/f.gguf", REPO, "sub/f.gguf", ""),
        (f"https://huggingface.co/{REPO}?show_file_info=f.gguf", REPO, "", ""),
        (f"https://huggingface.co/{REPO}/tree/main#top", REPO, "", "main"),
        (f"https://huggingface.co/{REPO}/tree/main/Q8_0", REPO, "Q8_0", "main"),
        (f"http://hf.co/{REPO}:Q4_K_M", REPO, "Q4_K_M", ""),
        (f"https://hf.co/{REPO}/blob/refs%2Fpr%2F1/f.gguf", REPO, "f.gguf", "refs/pr/1"),
        (f"https://hf.co/{REPO}/raw/{'a' * 40}/f.gguf", REPO, "f.gguf", "a" * 40),
        (f"hf.co/{REPO}/resolve/main/f-00001-of-00002.gguf", REPO, "f-00001-of-00002.gguf", "main"),
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
        ("gemma3:4b", "gemma3:4b", ""),
        ("llama-3.2-1b-instruct:q4_k_m", "llama-3.2-1b-instruct:q4_k_m", ""),
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
        (f"{REPO}:", "library.bad_reference"),
        (f"{REPO}@", "library.bad_reference"),
        ("word@", "library.bad_reference"),
        ("@q4", "library.bad_reference"),
        ("hf.co/owner", "library.bad_reference"),
        ("https://huggingface.co/", "library.bad_reference"),
        ("https://huggingface.co/datasets/owner/name", "library.bad_reference"),
        ("https://huggingface.co/spaces/owner/name", "library.bad_reference"),
        ("registry.ollama.ai/library/qwen3:8b", "library.foreign_address"),
        ("modelscope.cn/Qwen/Qwen3-0.6B-GGUF:Q8_0", "library.foreign_address"),
        ("oci://ghcr.io/o/m:latest", "library.foreign_address"),
        ("ms://o/m", "library.foreign_address"),
        ("https://[bad", "library.bad_reference"),
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
