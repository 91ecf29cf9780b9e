"""Short names: the shipped table, the user's over it, and what both mean for models and pulls."""

import os
from pathlib import Path

import pytest

from llmchat.core.discovery import Discovery
from llmchat.core.downloads import Downloads
from llmchat.core.models import Models
from llmchat.errors import ConfigError, NotFound
from llmchat.library.references import is_repo
from llmchat.library.shortnames import shipped, starter
from llmchat.library.variants import bits_of, group
from tests.core.test_models import put

OWN = """
["mine:tiny"]
repo = "o/mine-GGUF"
selector = "Q8_0"

["qwen3:8b"]
repo = "o/another-GGUF"
"""


def service(places, **more) -> Models:
    return Models(places=places, environ=dict(os.environ), **more)


def own_table(places, text: str) -> None:
    places.config.mkdir(parents=True, exist_ok=True)
    (places.config / "shortnames.toml").write_text(text)


def test_every_shipped_name_is_a_word_for_a_repository():
    assert starter().name == "smollm2:135m"
    assert len(shipped()) >= 20
    for name, entry in shipped().items():
        assert name == name.lower()
        assert "/" not in name
        assert is_repo(entry.repo)
        assert not entry.selector or bits_of(entry.selector) >= 4, name


def test_the_users_table_adds_and_goes_first(places):
    own_table(places, OWN)
    table = service(places).shortnames
    assert (table["mine:tiny"].repo, table["mine:tiny"].selector) == ("o/mine-GGUF", "Q8_0")
    assert table["qwen3:8b"].repo == "o/another-GGUF"
    assert table["smollm2:135m"] == starter()


@pytest.mark.parametrize(
    "text", ["[", '["x"]\nrepo = "nowhere"', '["x"]\nunknown = 1', 'x = "o/m"', "\x00"]
)
def test_a_broken_table_stops_only_its_own_words(places, tmp_path: Path, text: str):
    put(tmp_path / "hf", "o/m-GGUF", "m-Q4_K_M.gguf", b"GGUF one")
    own_table(places, text)
    models = service(places)
    assert [model.name for model in models.list()] == ["o/m-GGUF:Q4_K_M"]
    assert models.resolve("o/m-GGUF").name == "o/m-GGUF:Q4_K_M"
    with pytest.raises(ConfigError) as caught:
        models.resolve("mine:tiny")
    assert "shortnames.toml" in caught.value.sentence


def test_a_short_name_means_the_variant_that_is_here(places, tmp_path: Path):
    own_table(places, OWN)
    put(tmp_path / "hf", "o/mine-GGUF", "m-Q4_K_M.gguf", b"GGUF one")
    models = service(places)
    with pytest.raises(NotFound):
        models.resolve("mine:tiny")  # another variant is no answer
    put(tmp_path / "hf", "o/mine-GGUF", "m-Q8_0.gguf", b"GGUF two")
    assert models.resolve("MINE:tiny").name == "o/mine-GGUF:Q8_0"
    assert models.resolve("mine:tiny@q4_k_m").name == "o/mine-GGUF:Q4_K_M"


def test_aliases_have_one_rule_of_case_everywhere(places):
    aliases = {"Small": "smollm2:135m", "Chain": "SMALL", "loop": "Loop"}
    models = service(places, aliases=aliases)
    discovery = Discovery(environ=dict(os.environ), models=models)
    downloads = Downloads(places=places, environ=dict(os.environ), models=models)
    for typed in ("small", "SMALL", "chain", " Chain "):
        assert discovery.reference(typed).repo == starter().repo
    with pytest.raises(NotFound) as caught:
        downloads.plan("LOOP")
    assert caught.value.key.startswith("hub.unknown")


def test_an_unknown_word_lists_the_near_ones(places):
    downloads = Downloads(places=places, environ=dict(os.environ), models=service(places))
    with pytest.raises(NotFound) as caught:
        downloads.plan("qwen3:7b")
    assert "qwen3:8b" in caught.value.sentence


def test_a_model_that_is_there_whole_and_in_shards_keeps_its_label():
    variants = group({
        "m-q4_k_m.gguf": 100,
        "m-q4_k_m-00001-of-00002.gguf": 50,
        "m-q4_k_m-00002-of-00002.gguf": 50,
    })  # fmt: skip
    labels = {variant.label: len(variant.files) for variant in variants}
    assert labels == {"Q4_K_M": 1, "m-q4_k_m-00001-of-00002.gguf": 2}
