"""What is put in comes out byte for byte, for exactly those prompts that it belongs to."""

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llmchat.engine.disk import Circumstances, Folder, Shelf
from llmchat.engine.disk.keys import BLOCK, chain, common_links
from llmchat.errors import ConfigError
from tests.engine.disk.states import HERE, anywhere, conversation, shelf, snapshot, state_of, whole

LONG = conversation(1, 1000)


def test_a_state_comes_back_byte_for_byte(tmp_path: Path):
    assert shelf(tmp_path / "kv").put(snapshot(LONG))
    mine = shelf(tmp_path / "kv")
    candidate = mine.find(conversation(1, 1400))
    assert candidate is not None
    assert candidate.at_least == 1000
    found = mine.read(candidate)
    assert found is not None
    assert tuple(found.tokens) == LONG
    assert np.array_equal(found.state, state_of(LONG))


def test_checkpoints_come_back_and_keep_nothing_else_alive(tmp_path: Path):
    mine = shelf(tmp_path / "kv", usable=whole)
    points = tuple((end, state_of(LONG[:end])) for end in (256, 600))
    mine.put(snapshot(LONG, checkpoints=points))
    branch = (*LONG[:800], *conversation(9, 300))
    candidate = mine.find(branch)
    assert candidate is not None
    assert candidate.at_least == 600
    found = mine.read(candidate)
    assert found is not None
    assert np.array_equal(found.state, state_of(LONG))
    assert [end for end, _ in found.checkpoints] == [256, 600]
    for (_, mine_is), (_, theirs) in zip(found.checkpoints, points, strict=True):
        assert np.array_equal(mine_is, theirs)
        assert mine_is.base is None


@pytest.mark.parametrize("length", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_lengths_around_a_block(tmp_path: Path, length: int):
    mine = shelf(tmp_path / "kv", usable=whole)
    tokens = conversation(2, length)
    assert mine.put(snapshot(tokens))
    candidate = mine.find((*tokens, 7))
    assert candidate is not None
    assert candidate.at_least == length
    assert mine.find(tokens) is not None
    assert mine.find(tokens[:-1]) is None


def test_another_branch_gets_the_blocks_in_common(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    mine.put(snapshot(LONG))
    branch = (*LONG[:700], *conversation(9, 300))
    candidate = mine.find(branch)
    assert candidate is not None
    assert candidate.at_least == 512
    assert shelf(tmp_path / "kv", usable=whole).find(branch) is None
    assert mine.find(branch, more_than=512) is None
    assert mine.find(conversation(9, 900)) is None


def test_the_longest_that_may_be_used_is_offered(tmp_path: Path):
    mine, uncut = shelf(tmp_path / "kv"), shelf(tmp_path / "kv", usable=whole)
    for tag, length in (("a", 300), ("b", 900), ("c", 1500)):
        mine.put(snapshot(conversation(1, length), tag))
    for each in (mine, uncut):
        candidate = each.find(conversation(1, 1000))
        assert candidate is not None
        assert (candidate.at_least, candidate.meta.n_tokens) == (900, 900)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 2), min_size=900, max_size=900), st.integers(0, 899))
def test_links_agree_exactly_on_common_blocks(tokens: list[int], change: int):
    other = [*tokens]
    other[change] += 1
    shared = common_links(chain(HERE, tokens), chain(HERE, other))
    assert shared == min(change // BLOCK, len(tokens) // BLOCK)


def test_every_circumstance_is_a_key_of_its_own():
    base = Circumstances(identity="a" * 64, build="b")
    changes: dict[str, Any] = {
        "identity": "c" * 64,
        "build": "c",
        "cache_type_k": "q8_0",
        "cache_type_v": "q8_0",
        "flash_attn": "on",
        "swa_full": True,
        "kv_unified": False,
        "offloaded": True,
        "rope": ("rope.freq_base=10000",),
        "long_rope": True,
    }
    assert set(changes) == set(Circumstances.__struct_fields__)
    digests = {replace(base, **{name: value}).digest for name, value in changes.items()}
    assert len(digests | {base.digest}) == len(changes) + 1


def test_a_mixture_of_adapters_is_a_key_of_its_own(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    mine.put(snapshot((-1_234_567_890, *LONG[1:])))
    assert mine.find(LONG) is None
    assert mine.find((-1_234_567_891, *LONG[1:])) is None
    assert mine.find((-1_234_567_890, *LONG[1:])) is not None


def test_other_circumstances_see_nothing(tmp_path: Path):
    shelf(tmp_path / "kv").put(snapshot(LONG))
    elsewhere = Circumstances(identity="b" * 64, build="test").digest
    assert Shelf(Folder(tmp_path / "kv"), elsewhere, anywhere).find(LONG) is None


def test_a_longer_state_of_a_conversation_takes_the_place_of_the_shorter(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    mine.put(snapshot(conversation(1, 400)))
    mine.put(snapshot(conversation(1, 900)))
    assert [meta.n_tokens for meta in mine.folder.entries()] == [900]


def test_what_cannot_be_cut_keeps_its_shorter_states(tmp_path: Path):
    mine = shelf(tmp_path / "kv", usable=whole)
    for length in (300, 400):
        mine.put(snapshot(conversation(1, length)))
    point = (400, state_of(conversation(1, 400)))
    mine.put(snapshot(conversation(1, 900), checkpoints=(point,)))
    assert sorted(meta.n_tokens for meta in mine.folder.entries()) == [300, 900]


def test_forgetting_deletes_what_only_that_conversation_used(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    mine.put(snapshot(conversation(1, 400), "kept"))
    mine.put(snapshot(conversation(1, 800), "gone"))
    mine.put(snapshot(conversation(2, 600), "both"))
    mine.put(snapshot(conversation(2, 600), "gone"))
    mine.folder.forget("gone")
    left = {meta.n_tokens: meta.tags for meta in mine.folder.entries()}
    assert left == {400: ("kept",), 600: ("both",)}
    assert not any(b"gone" in path.read_bytes() for path in (tmp_path / "kv").glob("*.meta"))


def test_a_worker_cannot_save_a_forgotten_conversation(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    mine.put(snapshot(LONG, "kept"))
    mine.folder.forget("gone")
    assert not mine.put(snapshot(conversation(3, 500), "gone"))
    assert mine.put(snapshot(LONG, "gone"))  # it is there; nothing is added to it
    assert [meta.tags for meta in mine.folder.entries()] == [("kept",)]
    assert mine.folder.touch(mine.folder.entries()[0].name, "gone")
    assert [meta.tags for meta in mine.folder.entries()] == [("kept",)]


def test_a_fork_that_says_all_of_it_owns_it_too(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    mine.put(snapshot(LONG, "one"))
    name = mine.folder.entries()[0].name
    mine.folder.touch(name)
    assert mine.folder.entries()[0].tags == ("one",)
    mine.folder.touch(name, "fork")
    mine.folder.forget("one")
    assert [meta.tags for meta in mine.folder.entries()] == [("fork",)]


def test_files_are_private_whatever_the_umask(tmp_path: Path):
    before = os.umask(0)
    try:
        mine = shelf(tmp_path / "kv")
        mine.put(snapshot(LONG))
        mine.folder.forget("nobody")
    finally:
        os.umask(before)
    found = list((tmp_path / "kv").iterdir())
    assert len(found) == 5  # lock, budget, forgotten, and one entry
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    assert stat.S_IMODE((tmp_path / "kv").stat().st_mode) == 0o700


def test_a_linked_folder_is_refused(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "kv").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        Folder(tmp_path / "kv").set_budget(10**6)
    assert not any((tmp_path / "elsewhere").iterdir())


def test_without_a_folder_nothing_is_made(tmp_path: Path):
    folder = Folder(tmp_path / "kv")
    folder.forget("x")
    folder.clear()
    folder.sweep()
    folder.set_budget(0)
    assert folder.kept().size == 0
    assert not (tmp_path / "kv").exists()
