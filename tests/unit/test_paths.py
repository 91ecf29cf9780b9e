"""Places: one folder moves everything, sockets stay short, folders are ours alone."""

import os
import stat
from pathlib import Path

import pytest

from llmchat.errors import ConfigError
from llmchat.paths import MAX_RUN_BYTES, ensure_private, find_places


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_home_moves_everything(tmp_path):
    places = find_places({"LLMCHAT_HOME": str(tmp_path)})
    for place in (places.config, places.data, places.state, places.cache, places.logs):
        assert place.is_relative_to(tmp_path)
    assert places.database == tmp_path / "data" / "llmchat.db"


def test_a_long_home_gets_a_short_run_folder_that_every_process_finds(tmp_path):
    home = tmp_path / ("x" * 90)
    first, second = (find_places({"LLMCHAT_HOME": str(home)}).run for _ in range(2))
    assert first == second
    assert len(os.fsencode(first)) <= MAX_RUN_BYTES
    other = find_places({"LLMCHAT_HOME": str(home) + "y"}).run
    assert other != first


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_folders_are_ours_alone_whatever_the_umask(tmp_path, umask):
    old = os.umask(umask)
    try:
        folder = ensure_private(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(old)
    assert [mode(p) for p in (folder, folder.parent, folder.parent.parent)] == [0o700] * 3


def test_a_folder_that_was_open_is_closed(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    assert mode(ensure_private(folder)) == 0o700


def test_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="not a folder"):
        ensure_private(tmp_path / "link")


def test_a_file_in_the_way_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        ensure_private(tmp_path / "file" / "below")
    assert "cannot be written" in caught.value.sentence
    assert caught.value.hint
