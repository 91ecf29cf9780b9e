"""Whatever happens to the files, nothing wrong is ever given back, and it is soon gone."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

from llmchat.engine.disk import Folder
from tests.engine.disk.states import (
    check_everything,
    conversation,
    shelf,
    snapshot,
    state_of,
)

LENGTHS = (300, 513, 700)


def _flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def _grow(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(bytes(chance.randrange(1, 5000)))


def _rename(path: Path, chance: random.Random) -> None:
    path.rename(path.with_name(f"{chance.getrandbits(128):032x}{path.suffix}"))


def _swap(path: Path, chance: random.Random) -> None:
    others = [other for other in path.parent.glob(f"*{path.suffix}") if other != path]
    if others:
        other, spare = chance.choice(others), path.with_suffix(".spare")
        path.rename(spare)
        other.rename(path)
        spare.rename(other)


def _remove(path: Path, _chance: random.Random) -> None:
    path.unlink()


def _zero(path: Path, chance: random.Random) -> None:
    """As after a power cut: the size is right, a page never came."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(chance.randrange(size))
        file.write(bytes(min(4096, size)))
    os.truncate(path, size)


MISHAPS = (_flip, _truncate, _grow, _rename, _swap, _remove, _zero)


def _one_round(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    mine = shelf(path)
    for number, length in enumerate(LENGTHS):
        mine.put(snapshot(conversation(number, length), f"tag{number}"))
    for _ in range(chance.randrange(1, 4)):
        files = sorted([*path.glob("*.state"), *path.glob("*.meta")])
        if files:
            chance.choice(MISHAPS)(chance.choice(files), chance)
    for reader in (mine, shelf(path)):  # one with a memory of the files, one without
        for number, length in enumerate(LENGTHS):
            tokens = conversation(number, length)
            candidate = reader.find((*tokens, 1))
            found = reader.read(candidate) if candidate else None
            if found is not None:
                assert tuple(found.tokens) == tokens
                assert np.array_equal(found.state, state_of(tokens))
    mine.folder.sweep()
    halves = {found.stem for found in path.glob("*.state")}
    assert halves == {found.stem for found in path.glob("*.meta")}
    assert check_everything(mine.folder) == len(halves)
    for number, length in enumerate(LENGTHS):  # and it can be used as before
        tokens = conversation(number, length)
        assert mine.put(snapshot(tokens, f"tag{number}"))
        assert mine.find(tokens) is not None
    mine.folder.clear()


def test_nothing_wrong_is_given_back(tmp_path: Path):
    for seed in range(150):
        _one_round(tmp_path / "kv", seed)


@pytest.mark.torture
def test_nothing_wrong_is_given_back_often(tmp_path: Path):
    for seed in range(1000, 6000):
        _one_round(tmp_path / "kv", seed)


def test_a_wrong_state_is_forgotten_when_it_is_read(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    mine.put(snapshot(conversation(1, 600)))
    _flip(next((tmp_path / "kv").glob("*.state")), random.Random(3))
    candidate = mine.find(conversation(1, 700))
    assert candidate is not None
    assert mine.read(candidate) is None
    assert mine.find(conversation(1, 700)) is None
    assert not list((tmp_path / "kv").glob("*.state"))


def test_pipes_links_and_folders_are_nothing_of_ours(tmp_path: Path):
    path = tmp_path / "kv"
    mine = shelf(path)
    mine.put(snapshot(conversation(1, 600)))
    (outside := tmp_path / "outside").write_bytes(b"precious")
    os.mkfifo(path / f"{'a' * 32}.meta")
    (path / f"{'b' * 32}.meta").symlink_to(outside)
    (path / f"{'c' * 32}.1-1.tmp").symlink_to(outside)
    state = next(path.glob("*.state"))
    state.unlink()
    os.mkfifo(state)
    candidate = mine.find(conversation(1, 700))
    assert candidate is not None
    assert mine.read(candidate) is None
    mine.folder.sweep()
    assert sorted(found.name for found in path.iterdir()) == ["budget", "lock"]
    assert outside.read_bytes() == b"precious"


@pytest.mark.parametrize("content", [b"", b"x", b"-5", b"\xff" * 100, b"9" * 400])
def test_a_budget_that_cannot_be_read_allows_nothing_or_a_number(tmp_path: Path, content: bytes):
    mine = shelf(tmp_path / "kv")
    (tmp_path / "kv" / "budget").write_bytes(content)
    assert mine.folder.budget() >= 0
    mine.put(snapshot(conversation(1, 600)))
    if not mine.folder.budget():
        assert not mine.folder.entries()


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path):
    (tmp_path / "kv").write_bytes(b"a file")
    folder = Folder(tmp_path / "kv")
    assert folder.entries() == []
    assert folder.kept().size == 0
