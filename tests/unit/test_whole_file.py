"""One room writes files whole; every place that does it goes through many at once, too."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmchat.config.writing import set_value
from llmchat.engine.transport import listen, read_address
from llmchat.errors import HubError
from llmchat.hub.cache import RepoFolder
from llmchat.library.identities import Identities
from llmchat.store.blobs import Blobs
from llmchat.tui.drafts import Drafts
from llmchat.whole_file import PART_SUFFIX, beside, sync_folder, write_whole

ROUNDS = 150
OLD, NEW = b"old" * 1000, b"new" * 100_000


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file"


@pytest.fixture(autouse=True)
def folder(path: Path) -> Path:
    path.parent.mkdir()
    return path.parent


def at_once(*works: Callable[[], object]) -> None:
    """Each on a thread of its own, `ROUNDS` times; raises what any of them raised."""
    begin = threading.Barrier(len(works))
    failures: list[BaseException] = []

    def many(work: Callable[[], object]) -> None:
        try:
            begin.wait(30)
            for _ in range(ROUNDS):
                work()
        except (OSError, HubError, AssertionError, threading.BrokenBarrierError) as error:
            failures.append(error)

    threads = [threading.Thread(target=many, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("lasting", [True, False])
def test_two_threads_write_one_file_and_a_third_reads_it_whole(path: Path, lasting: bool):
    write_whole(path, OLD)

    def look() -> None:
        assert path.read_bytes() in (OLD, NEW)

    at_once(
        lambda: write_whole(path, OLD, lasting=lasting),
        lambda: write_whole(path, NEW, lasting=lasting),
        look,
    )
    assert files(path.parent) == ["file"]


def refs(folder: Path) -> Callable[[], object]:
    cache = RepoFolder(folder, "o/m")
    return lambda: cache.write_ref("refs/pr/1", "a" * 40)


def links(folder: Path) -> Callable[[], object]:
    cache = RepoFolder(folder, "o/m")
    contents = iter("0123456789abcdef" * ROUNDS)
    return lambda: cache.link("a" * 40, "m.gguf", next(contents) * 64)


def drafts(folder: Path) -> Callable[[], object]:
    kept = Drafts(folder)
    words = iter(range(ROUNDS))

    def save() -> None:
        kept.put("c", f"{next(words)} " * 1000)
        assert kept.save()
        found = Drafts(folder).get("c").split()
        assert len(set(found)) == 1, "one window's or the other's, never both"

    return save


def blobs(folder: Path) -> Callable[[], object]:
    folder.chmod(0o700)
    kept = Blobs(folder)
    data = iter(range(ROUNDS))
    return lambda: kept.get(kept.put(b"%d" % next(data)))


def settings(folder: Path) -> Callable[[], object]:
    return lambda: set_value(folder / "config.toml", ("chat", "model"), "m")


def identities(folder: Path) -> Callable[[], object]:
    model = folder.parent / "m.gguf"
    model.write_bytes(b"GGUF")

    def save() -> None:
        kept = Identities(folder / "known.json")
        kept._remember(str(model), model.stat(), "x")
        kept.save()
        assert not kept._changed, "the disk refused"

    return save


@pytest.mark.parametrize("place", [refs, links, drafts, blobs, settings, identities])
def test_every_place_is_written_by_two_at_once(
    folder: Path, place: Callable[[Path], Callable[[], object]]
):
    at_once(place(folder), place(folder))
    assert [name for name in files(folder) if PART_SUFFIX in name] == []


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Writing more than that fails as on a full disk: in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_stops_in_the_middle_leaves_what_was_there(path: Path):
    write_whole(path, OLD)
    with no_file_beyond(len(NEW) // 2), pytest.raises(OSError, match="too large"):
        write_whole(path, NEW)
    assert path.read_bytes() == OLD
    assert files(path.parent) == ["file"]


@pytest.mark.parametrize("step", ["os.fsync", "os.fchmod", "pathlib.Path.replace"])
def test_whatever_fails_the_old_content_stays(path: Path, monkeypatch, step: str):
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write_whole(path, OLD)
    with monkeypatch.context() as patched:
        patched.setattr(step, refuse)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            write_whole(path, NEW, keep_mode=True)
    assert path.read_bytes() == OLD
    assert files(path.parent) == ["file"]


def test_an_interrupt_leaves_nothing(path: Path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_whole(path, NEW)
    assert files(path.parent) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from llmchat.whole_file import write_whole
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_whole(Path(sys.argv[1]), b"half")
"""


def test_what_a_killed_process_left_is_in_nobodys_way(path: Path):
    write_whole(path, OLD)
    for _ in range(2):
        dead = subprocess.run([sys.executable, "-c", KILLED, path], timeout=60, check=False)
        assert dead.returncode == -signal.SIGKILL
    assert path.read_bytes() == OLD
    left = [name for name in files(path.parent) if name != "file"]
    assert len(left) == 2
    assert all(name.startswith("file.") and name.endswith(PART_SUFFIX) for name in left)
    write_whole(path, NEW)
    assert path.read_bytes() == NEW
    assert files(path.parent) == sorted(["file", *left])


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_file_is_private_unless_asked(path: Path, umask: int):
    old = os.umask(umask)
    try:
        write_whole(path, OLD)
        assert mode(path) == 0o600
        write_whole(path, OLD, mode=0o666)
        assert mode(path) == 0o666 & ~umask
        path.chmod(0o664)
        write_whole(path, NEW, keep_mode=True)
        assert mode(path) == 0o664
        write_whole(path, NEW)
        assert mode(path) == 0o600
        path.unlink()
        write_whole(path, NEW, keep_mode=True)
        assert mode(path) == 0o600
    finally:
        os.umask(old)


def test_a_ref_is_as_readable_as_huggingfaces_own(folder: Path):
    old = os.umask(0o022)
    try:
        RepoFolder(folder, "o/m").write_ref("main", "a" * 40)
    finally:
        os.umask(old)
    ref = folder / "models--o--m" / "refs" / "main"
    assert (ref.read_text(), mode(ref)) == ("a" * 40, 0o644)


def test_a_link_is_replaced_and_what_it_led_to_stays(path: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(OLD)
    path.symlink_to(elsewhere)
    write_whole(path, NEW)
    assert not path.is_symlink()
    assert (path.read_bytes(), elsewhere.read_bytes()) == (NEW, OLD)


def test_a_link_planted_under_the_temporary_name_is_not_followed(
    path: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("os.urandom", bytes)
    victim = tmp_path / "victim"
    with beside(path) as guessed:
        guessed.symlink_to(victim)
        with pytest.raises(FileExistsError):
            write_whole(path, NEW)
    assert not victim.exists()
    assert not path.exists()


def test_the_longest_name_that_a_file_system_takes(folder: Path):
    longest = folder / ("ä" * 127)
    write_whole(longest, NEW)
    assert files(folder) == [longest.name]


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "absent" / "file", NEW)
    assert not (tmp_path / "absent").exists()


def test_a_folder_that_cannot_be_synced_is_no_failure(path: Path, monkeypatch):
    sync = os.fsync

    def refuse(descriptor: int, reason: int = errno.EINVAL) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(reason, os.strerror(reason))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", refuse)
    write_whole(path, NEW)
    assert path.read_bytes() == NEW
    monkeypatch.setattr("os.fsync", lambda descriptor: refuse(descriptor, errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        sync_folder(path.parent)


def test_hard_links_instead_of_symbolic_ones_leave_nothing_beside(folder: Path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    cache = RepoFolder(folder, "o/m")
    blob = cache.blob("a" * 64)
    cache.prepare(blob)
    blob.write_bytes(b"GGUF")
    for _ in range(2):  # renaming one name of a file to another of the same file does nothing
        named = cache.link("b" * 40, "m.gguf", "a" * 64)
    assert named.samefile(blob)
    assert files(folder) == sorted(["a" * 64, "m.gguf"])


def test_the_address_of_a_worker_is_private_and_whole(path: Path):
    path.with_suffix(".new").mkdir()
    with listen(path, tcp=True):
        assert mode(path) == 0o600
        assert read_address(path) is not None
    assert files(path.parent) == ["file"]
