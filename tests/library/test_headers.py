"""Descriptions of real and broken files, read once for each content."""

import os

import pytest

from llmchat.core.models import Models
from llmchat.errors import ModelFileError


@pytest.mark.model
def test_the_starter_described_once(places, starter, monkeypatch):
    models = Models(places=places, environ=dict(os.environ))
    model = models.resolve(str(starter))
    description = models.describe(model)
    about = description.about
    assert (about.architecture, about.quantization, about.n_ctx_train) == ("llama", "Q4_1", 8192)
    assert 130_000_000 < about.parameters < 170_000_000
    assert about.size == model.size
    assert "chat" in about.capabilities
    assert "<|im_start|>" in about.chat_template
    assert description.metadata["general.architecture"] == "llama"
    assert not description.vision
    monkeypatch.setattr("llmchat.library.headers.read_header", None)
    assert models.describe(model) == description


def test_a_file_that_is_no_model(places, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 100)
    models = Models(places=places, environ=dict(os.environ))
    model = models.resolve(str(broken))
    for _ in range(2):
        with pytest.raises(ModelFileError) as caught:
            models.describe(model)
        assert "broken.gguf" in caught.value.sentence
    assert list((places.cache / "headers").glob("*")) == []


@pytest.mark.model
def test_a_cache_of_rubbish_is_read_anew(places, starter):
    models = Models(places=places, environ=dict(os.environ))
    model = models.resolve(str(starter))
    first = models.describe(model)
    [kept] = list((places.cache / "headers").iterdir())
    for rubbish in (
        b"",
        b"null",
        b"[" * 10_000,
        kept.read_bytes().replace(b'"version":"', b'"version":"x'),
    ):
        kept.write_bytes(rubbish)
        assert models.describe(model) == first
