"""`kv_cache_disk`: sizes as people write them, and a budget that holds at once."""

import pytest

from llmchat.config.reading import read_environment, read_file
from llmchat.config.sizes import in_bytes
from llmchat.core.settings import SettingsService
from llmchat.engine.disk import Folder
from llmchat.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4 GiB", 4 * 1024**3),
        ("4GB", 4 * 10**9),
        ("1.5 MiB", 1_572_864),
        ("300 B", 300),
        ("2 TB", 2 * 10**12),
    ],
)
def test_sizes(places, text: str, size: int):
    assert in_bytes(text) == size
    settings = SettingsService(places, {})
    settings.set("kv_cache_disk", text)
    assert settings.kv_cache_disk == size
    assert settings.problems == ()
    assert SettingsService(places, {}).kv_cache_disk == size


@pytest.mark.parametrize("text", ["4", "lots", "-1 GB", "4 GiBs", "GiB", "", "1e9 B", "4 PB"])
def test_what_is_no_size_is_refused(places, text: str):
    settings = SettingsService(places, {})
    with pytest.raises(ConfigError, match="a size needs a unit"):
        settings.set("kv_cache_disk", text)
    assert settings.kv_cache_disk == 4 * 1024**3


def test_the_environment_comes_first(places):
    places.config.mkdir(parents=True)
    places.config_file.write_text('[memory]\nkv_cache_disk = "1 GiB"\n')
    assert read_file(places.config_file).problems == ()
    for environ in ({"LLMCHAT_KV_CACHE_DISK": "0"}, {"LLMCHAT_MEMORY_KV_CACHE_DISK": "0"}):
        assert read_environment(environ).problems == ()
        assert SettingsService(places, environ).kv_cache_disk == 0
    assert SettingsService(places, {}).kv_cache_disk == 1024**3


def test_a_change_holds_at_once(places):
    settings = SettingsService(places, {})
    settings.set("kv_cache_disk", "0")
    assert not places.kv.exists()  # nothing to empty: nothing is made
    settings.set("kv_cache_disk", "1 MiB")
    assert Folder(places.kv).budget() == 1024**2
    settings.set("kv_cache_disk", None)
    assert Folder(places.kv).budget() == 4 * 1024**3
    settings.set("kv_cache_disk", "0")
    assert Folder(places.kv).budget() == 0
