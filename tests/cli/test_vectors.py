"""`llmchat embed`, `rerank` and `tokenize`: what they print where, and what they say."""

import json
from pathlib import Path

import pytest

from llmchat.core.vectors import MOST_TEXTS, parts
from tests import bert
from tests.cli.program import run


@pytest.fixture
def ranker(tmp_path: Path) -> str:
    path = tmp_path / "ranker.gguf"
    bert.tiny_reranker().write(path, pooling=bert.RANK, half=False)
    return str(path)


def test_a_line_of_numbers_for_each_text(model: str, script):
    done = run("embed", model, "a cat", "the dog", "a cat")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first == third != second
    assert sum(value * value for value in first) == pytest.approx(1, abs=1e-5)


def test_lines_of_stdin_and_one_object(model: str, script):
    done = run("embed", model, "--json", given="a cat\n\nthe dog\n")
    found = json.loads(done.stdout)
    assert [row["index"] for row in found["data"]] == [0, 1]
    assert found["usage"]["total_tokens"] == 4
    lines = run("embed", "-m", model, "a cat", "the dog").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [row["embedding"] for row in found["data"]]


def test_documents_come_best_first(model: str, script):
    done = run("rerank", model, "a cat", "the dog", "a cat", "a tree", "--json", "--top", "2")
    results = json.loads(done.stdout)["results"]
    assert [result["index"] for result in results] == [1, 2]
    shown = run("rerank", model, "a cat", given="the dog\na cat\n").stdout.splitlines()
    assert shown[1].split() == ["1.0000", "2", "a", "cat"]


def test_without_texts_or_a_model_it_says_what_to_type(model: str, script):
    done = run("embed", model)
    assert (done.returncode, done.stdout) == (2, "")
    assert "llmchat embed MODEL TEXT" in done.stderr
    done = run("embed", given="words\n")
    assert done.returncode == 3
    assert "no embedding model here" in done.stderr


def test_a_real_reranker_through_its_worker(ranker: str):
    done = run("rerank", ranker, "a cat", "zebra", "the dog?", "--json")
    reference = bert.tiny_reranker()
    for result in json.loads(done.stdout)["results"]:
        expected = reference.score("a cat", result["document"])
        assert result["relevance_score"] == pytest.approx(expected, abs=1e-2)
    long = run("rerank", ranker, "a", "b " * 200)
    assert (long.returncode, long.stdout) == (1, "")
    assert "has 204 tokens; the model takes 96 at once" in long.stderr
    tokens = run("tokenize", ranker, "a [SEP] \x1b[31m", "--ids", "--no-parse-special")
    assert json.loads(tokens.stdout)[0] == bert.CLS
    assert json.loads(tokens.stdout).count(bert.SEP) == 1  # the one that ends every text
    run("stop", "--all")


def test_tokens_are_shown_without_harm(model: str, script):
    done = run("tokenize", model, given="one\x1b]0;two\x07 three")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert run("tokenize", model, "a b c", "--show-count").stdout == "3 tokens\n"


def test_many_texts_are_several_requests():
    found = parts(["text"] * (2 * MOST_TEXTS + 1), 384)
    assert [len(part) for part in found] == [MOST_TEXTS, MOST_TEXTS, 1]
    assert len(parts(["x" * 9_000_000] * 3, 384)) == 3
    assert parts([], 384) == []
    assert max(map(len, parts(["a"] * 100, 1 << 20))) == 4
