"""Drafts on the disk."""

import json
from pathlib import Path

from msgspec.structs import replace

from llmchat.core.sweeping import in_drafts
from llmchat.tui.drafts import DraftFile, Drafts
from llmchat.tui.screens.attaching_actions import digest_of, draft_files, placed
from llmchat.values import Part


def test_a_draft_survives(tmp_path: Path):
    drafts = Drafts(tmp_path)
    drafts.put("c1", "half a thought")
    drafts.put(None, "a new one")
    assert drafts.save()
    again = Drafts(tmp_path)
    assert (again.get("c1"), again.get(None), again.get("c2")) == (
        "half a thought",
        "a new one",
        "",
    )
    assert (tmp_path / "drafts.json").stat().st_mode & 0o777 == 0o600


def test_files_stay_with_their_words(tmp_path: Path):
    drafts = Drafts(tmp_path)
    files = [DraftFile(path="/a/b.py", name="b.py"), DraftFile(path="/i", name="i", blob="ab" * 32)]
    drafts.put("c1", "look", files)
    drafts.put("c2", "", files[:1])
    drafts.put("c3", "words")
    assert drafts.save()
    again = Drafts(tmp_path)
    assert (again.get("c1"), again.files("c1")) == ("look", tuple(files))
    assert (again.get("c2"), again.files("c2")) == ("", tuple(files[:1]))
    assert again.files("c3") == again.files(None) == ()
    assert json.loads((tmp_path / "drafts.json").read_text())["c3"] == "words"
    assert in_drafts(tmp_path / "drafts.json") == {"ab" * 32}
    again.put("c2", "")
    assert again.save()
    assert Drafts(tmp_path).files("c2") == ()


def test_an_empty_draft_is_forgotten(tmp_path: Path):
    drafts = Drafts(tmp_path)
    drafts.put("c1", "x")
    drafts.put("c1", "")
    drafts.save()
    assert Drafts(tmp_path).get("c1") == ""


def test_a_broken_file_is_no_draft(tmp_path: Path):
    for text in (
        "{",
        "[]",
        '{"a": 1}',
        '{"a": {"files": 3}}',
        '{"a": {"files": [{}]}}',
        "[" * 9999,
    ):
        (tmp_path / "drafts.json").write_text(text)
        assert Drafts(tmp_path).get("a") == ""


def test_a_disk_that_refuses_is_told_and_nothing_else(tmp_path: Path):
    (tmp_path / "file").write_text("")
    drafts = Drafts(tmp_path / "file")
    drafts.put("c1", "x")
    assert not drafts.save()
    assert drafts.get("c1") == "x"


def test_half_a_character_does_not_lose_the_draft(tmp_path: Path):
    drafts = Drafts(tmp_path)
    drafts.put("c1", "a\ud800b", [DraftFile(path="/\udcff", name="\udcff")])
    assert drafts.save()
    assert Drafts(tmp_path).get("c1") == "a?b"


def test_what_a_file_said_when_it_was_attached_is_kept_in_a_few_letters(tmp_path: Path):
    text = Part(kind="file", text="words of the file")
    other = placed(replace(text, text="other words"), "/a", digest_of(text))
    assert digest_of(text) != digest_of(replace(text, text="words of the file!"))
    assert placed(text, "/a").meta == {"path": "/a", "digest": digest_of(text)}
    assert placed(text, "/a", digest_of(text)).meta == placed(text, "/a").meta
    assert placed(text, "/a", "").meta == placed(text, "/a").meta, "an older draft"
    assert other.meta == {"path": "/a", "digest": digest_of(text), "changed": "yes"}
    drafts = Drafts(tmp_path)
    drafts.put("c1", "look", draft_files([other]))
    assert drafts.save()
    (file,) = Drafts(tmp_path).files("c1")
    assert file.digest == digest_of(text)
    assert in_drafts(tmp_path / "drafts.json") == set(), "it is no hash of a blob"
