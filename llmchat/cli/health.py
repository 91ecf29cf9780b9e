"""What `llmchat doctor` looks at: each check says what it found and, if it is off, what to do.

Owns the questions; core, the system and a short-lived process that loads llama.cpp answer them.
llama.cpp is never loaded here: it may abort its process.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from llmchat import __version__
from llmchat.cli.amounts import size, span
from llmchat.cli.parts import open_models, open_runtime, open_settings
from llmchat.core.leftovers import leftovers
from llmchat.core.savedstates import SavedStates
from llmchat.errors import LlmchatError
from llmchat.paths import Places, find_places
from llmchat.text import say

PACKAGES = ("textual", "llama-cpp-python", "huggingface-hub", "apsw", "msgspec", "click")
LOW_DISK = 2 * 10**9
"""Bytes below which no model worth the name fits."""
LOG_LINES = 5

_PROBE = """
import json, llama_cpp
from llmchat.engine.worker.devices import find_devices
print(json.dumps({
    "gpu": llama_cpp.llama_supports_gpu_offload(),
    "devices": [[f.device.name, f.device.description, f.device.type, f.device.free]
                for f in find_devices()],
}))
"""


class Check(Struct, frozen=True, kw_only=True):
    """One finding."""

    name: str
    state: Literal["ok", "warn", "bad"]
    text: str
    hint: str = ""


class Build(Struct, frozen=True):
    """What the engine's build can use: `devices` are name, description, type, free bytes."""

    gpu: bool
    devices: list[tuple[str, str, str, int]]


async def examine() -> list[Check]:
    """Every check, in the order they are shown."""
    places = find_places()
    checks = [*_versions(), *_build(), *_places(places), *_disk(places), *_config()]
    checks += await _living()
    checks += _kv(places)
    return [*checks, *_leftovers(), *_log(places)]


def _versions() -> Iterator[Check]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Check(name="llmchat", state="ok", text=f"{__version__}, Python {python}, {sys.platform}")
    for package in PACKAGES:
        try:
            yield Check(name=package, state="ok", text=version(package))
        except PackageNotFoundError:
            hint = say("cli.doctor_reinstall")
            yield Check(name=package, state="bad", text=say("cli.doctor_missing"), hint=hint)


def _build() -> Iterator[Check]:
    """What llama.cpp can compute on, asked in a process of its own, against what is in here."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, timeout=60, check=True
        )
        found = msgspec.json.decode(done.stdout.splitlines()[-1], type=Build)
    except (subprocess.SubprocessError, msgspec.MsgspecError, IndexError) as error:
        reason = str(error)
        if isinstance(error, subprocess.CalledProcessError):
            reason = error.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        hint = say("cli.doctor_reinstall")
        text = say("cli.doctor_engine_broken", reason=reason)
        yield Check(name="engine", state="bad", text=text, hint=hint)
        return
    for name, description, kind, free in found.devices:
        text = say("cli.doctor_device", description=description, kind=kind, free=size(free))
        yield Check(name=f"device {name}", state="ok", text=text)
    if _has_gpu() and not found.gpu:
        hint = say("cli.doctor_gpu_hint")
        yield Check(name="gpu", state="warn", text=say("cli.doctor_gpu_unused"), hint=hint)
    else:
        key = "cli.doctor_gpu_yes" if found.gpu else "cli.doctor_gpu_none"
        yield Check(name="gpu", state="ok", text=say(key))


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/kfd").exists()


def _places(places: Places) -> Iterator[Check]:
    for name in ("config", "data", "state", "cache", "logs", "run"):
        folder: Path = getattr(places, name)
        yield _place(name, folder)


def _place(name: str, folder: Path) -> Check:
    label = f"folder {name}"
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return Check(name=label, state="ok", text=say("cli.doctor_not_yet", path=folder))
    except OSError as error:
        return Check(name=label, state="bad", text=f"{folder}: {error.strerror}")
    if not stat.S_ISDIR(found.st_mode):
        return Check(name=label, state="bad", text=say("paths.not_a_folder", path=folder))
    if found.st_uid != os.getuid():
        return Check(name=label, state="bad", text=say("paths.not_ours", path=folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        return Check(name=label, state="bad", text=say("cli.doctor_unwritable", path=folder))
    mode = stat.S_IMODE(found.st_mode)
    if name == "run" and mode != 0o700:
        text = say("cli.doctor_mode", path=folder, mode=f"{mode:04o}")
        return Check(name=label, state="bad", text=text, hint=f"chmod 700 {folder}")
    return Check(name=label, state="ok", text=f"{folder} ({mode:04o})")


def _disk(places: Places) -> Iterator[Check]:
    for name, folder in (("models", open_models().hub_cache), ("data", places.data)):
        there = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(there).free
        text = say("cli.doctor_free", path=folder, free=size(free))
        yield Check(name=f"disk {name}", state="ok" if free >= LOW_DISK else "warn", text=text)


def _kv(places: Places) -> Iterator[Check]:
    """What is kept of read prompts, and how much may be."""
    kept = SavedStates(places).kept()
    budget = open_settings(quiet=True).kv_cache_disk
    key = "cli.doctor_kv" if budget else "cli.doctor_kv_off"
    text = say(key, path=places.kv, size=size(kept.size), entries=kept.entries, most=size(budget))
    hint = "" if not kept.size else say("cli.doctor_kv_hint")
    yield Check(name="kv states", state="ok", text=text, hint=hint)


def _config() -> Iterator[Check]:
    settings = open_settings(quiet=True)
    for problem in settings.problems:
        yield Check(name="config", state="bad", text=problem)
    if not settings.problems:
        yield Check(name="config", state="ok", text=str(find_places().config_file))


async def _living() -> list[Check]:
    """The conversations' database, which is checked when it is opened, and the live workers."""
    try:
        async with open_runtime("doctor") as runtime:
            checks = [
                Check(name="conversations", state="bad", text=notice)
                for notice in runtime.notices
                if notice not in runtime.settings.problems
            ]
            live = await runtime.models.live()
    except LlmchatError as error:
        return [
            Check(name="conversations", state="bad", text=error.sentence, hint=error.hint or "")
        ]
    if not checks:
        checks.append(Check(name="conversations", state="ok", text=str(find_places().database)))
    for status in live:
        idle = span(status.idle_seconds)
        text = say("cli.doctor_worker", state=status.state, size=size(status.size), idle=idle)
        checks.append(Check(name=f"loaded {status.model}", state="ok", text=text))
    return checks


def _leftovers() -> Iterator[Check]:
    """Partial downloads: a pull goes on with them, but nobody may want to."""
    for part in leftovers(open_models().hub_cache):
        hint = say("cli.doctor_part_hint" if part.ours else "cli.doctor_foreign_hint")
        text = say("cli.doctor_part", path=part.path, size=size(part.size))
        yield Check(name="partial download", state="warn", text=text, hint=hint)


def _log(places: Places) -> Iterator[Check]:
    """The end of the newest log."""
    try:
        logs = sorted(places.logs.iterdir(), key=lambda path: path.stat().st_mtime)
        lines = logs[-1].read_text("utf-8", "replace").splitlines()[-LOG_LINES:] if logs else []
    except OSError:
        return
    if logs:
        text = "\n".join([str(logs[-1]), *(f"  {line}" for line in lines)])
        yield Check(name="last log", state="ok", text=text)
