"""Settings as lines to edit: read, write, parse."""

import pytest

from llmchat.tui.setting_fields import FIELDS, as_text, parse, read, write
from llmchat.values import ChatSettings, Sampling, Wants

BY_KEY = {field.key: field for field in FIELDS}


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("sampling.temperature", "0.7", 0.7),
        ("sampling.temperature", "0,7", 0.7),
        ("sampling.top_k", "40", 40),
        ("max_tokens", "", None),
        ("thinking", "on", True),
        ("thinking", "Off", False),
        ("thinking", "high", "high"),
        ("wants.n_gpu_layers", "auto", "auto"),
        ("wants.n_gpu_layers", "12", 12),
        ("wants.n_ctx", "4096", 4096),
    ],
)
def test_a_value_goes_in_and_comes_out(key, text, value):
    settings = write(ChatSettings(), key, parse(BY_KEY[key], text))
    assert read(settings, key) == value
    assert parse(BY_KEY[key], as_text(read(settings, key))) == value


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("sampling.temperature", "-1"),
        ("sampling.temperature", "nan"),
        ("sampling.temperature", "hot"),
        ("sampling.top_p", "1.1"),
        ("sampling.top_k", "1.5"),
        ("max_tokens", "0"),
        ("thinking", "maybe"),
        ("wants.n_gpu_layers", "most"),
    ],
)
def test_what_is_no_value_is_refused_with_a_sentence(key, text):
    with pytest.raises(ValueError, match=r"nothing\.$"):
        parse(BY_KEY[key], text)


def test_one_change_leaves_the_others():
    settings = ChatSettings(sampling=Sampling(top_k=3), wants=Wants(n_ctx=512), system="s")
    changed = write(settings, "sampling.temperature", 0.5)
    assert changed.sampling == Sampling(top_k=3, temperature=0.5)
    assert (changed.wants, changed.system) == (settings.wants, "s")


def test_what_needs_a_reload_is_what_the_engine_is_started_with():
    assert {field.key for field in FIELDS if field.reload} == {"wants.n_ctx", "wants.n_gpu_layers"}
