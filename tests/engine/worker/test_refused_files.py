"""Files that would end llama.cpp's process are refused before it sees them."""

import pytest

from llmchat.engine.worker.loading import Audience
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.opening import open_everything
from llmchat.errors import EngineError
from llmchat.values import ModelFile, Wants
from tests.unit.gguf.crafted import gguf


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (gguf({"llama.block_count": 100_000}), "gguf.not_a_model"),
        (gguf({"tokenizer.ggml.tokens": ["a", "b", "a"]}), "gguf.not_a_model"),
        (gguf()[:1000], "gguf.incomplete"),
        (b"<!DOCTYPE html><html></html>", "gguf.is_web_page"),
    ],
)
def test_a_crafted_file_is_refused_in_a_sentence(tmp_path, data, key):
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    model = ModelFile(name="bad", path=str(path), identity="0" * 64, size=len(data))
    with pytest.raises(EngineError) as caught:
        open_everything(
            model,
            Wants(),
            LogRing(),
            Audience(
                progress=lambda event: None,
                proceed=lambda plan: pytest.fail("nothing may be planned for it"),
                stopping=lambda: False,
            ),
        )
    assert caught.value.key == key
    assert "bad.gguf" in caught.value.sentence
