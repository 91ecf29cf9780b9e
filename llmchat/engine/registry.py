"""Where live workers are found on this machine: names, sockets, locks and deaths in the run folder.

A worker's name is a digest of what must be the same for it to be shared: the model, this llmchat,
its engine build; a second worker of a model is `NAME.2`. `NAME.sock` is its socket; `NAME.lock` is
locked for as long as it lives, and by whoever starts it; `NAME.deaths` counts how the workers of
a model died. Lock files are never unlinked: one that is unlinked while another process waits for it
would lock nothing. Refuses to start or to talk to workers (starting.py, client.py), and to import
llama_cpp: its build is read from its metadata.
"""

import fcntl
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import llmchat
from llmchat.engine import transport
from llmchat.paths import ensure_private

DEATHS_WINDOW = 60.0
DEATHS_ALLOWED = 3
SLOTS = 4
"""Workers of one model at once: those after the first have other wants, and room."""
_SOCKET = ".sock"


@lru_cache(maxsize=1)
def binding_build() -> str:
    """The version of llama-cpp-python, without importing it; empty when it is not installed."""
    try:
        return f"llama-cpp-python {metadata.version('llama-cpp-python')}"
    except metadata.PackageNotFoundError:
        return ""


@lru_cache(maxsize=1)
def _editable() -> bool:
    """This llmchat runs from a working tree, whose code changes without its version."""
    try:
        found = metadata.distribution("llmchat").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return True
    return bool(found) and json.loads(found or "{}").get("dir_info", {}).get("editable") is True


@lru_cache(maxsize=1)
def _newest_source() -> int:
    """When this engine's code was last changed; once a process, whose own code does not change."""
    if not _editable():
        return 0
    return max(path.stat().st_mtime_ns for path in Path(__file__).parent.rglob("*.py"))


def digest(identity: str, script: str | None = None) -> str:
    """The name that workers for this model, this llmchat and this engine share: 16 hex digits.

    `script`: of a scripted worker, which is never shared with a real one.
    """
    words = [identity, llmchat.__version__, binding_build(), sys.prefix, str(_newest_source())]
    if script is not None:
        words.append(f"scripted:{script}")
    return hashlib.sha256("\0".join(words).encode(errors="surrogateescape")).hexdigest()[:16]


def slots(name: str) -> tuple[str, ...]:
    """The names of all workers that a model may have at once, the first one first."""
    return (name, *(f"{name}.{number}" for number in range(2, SLOTS + 1)))


@dataclass(frozen=True, slots=True)
class Death:
    """A worker that ended unasked: wall-clock seconds, its pid, and the signal or exit code."""

    time: float
    pid: int
    how: str


class Registry:
    """The run folder. Every call looks at the disk: other processes change it at any time."""

    def __init__(self, run: Path, *, tcp: bool = False) -> None:
        """`tcp`: new workers listen on loopback (transport.py); others are found as they are."""
        self.run = run
        self._tcp = tcp

    def prepare(self) -> None:
        """Make the run folder, ours alone.

        Raises:
            ConfigError: it cannot be.
        """
        ensure_private(self.run)

    def socket_path(self, name: str) -> Path:
        """Where a worker listens."""
        return self.run / f"{name}{_SOCKET}"

    def names(self) -> list[str]:
        """The names that have a socket, dead or alive, in order."""
        return sorted(path.stem for path in self.run.glob(f"*{_SOCKET}"))

    @contextmanager
    def lock(self, name: str) -> Iterator[int | None]:
        """The lock's descriptor if nobody holds it, else None; let go at the end of the block.

        A process that inherits the descriptor keeps the lock: flock belongs to the open file.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.run / f"{name}.lock", flags, 0o600)
        try:
            yield descriptor if _flock(descriptor) else None
        finally:
            os.close(descriptor)

    def held(self, name: str) -> bool:
        """Whether a worker of this name lives, or is being started."""
        try:
            with self.lock(name) as descriptor:
                return descriptor is None
        except OSError:
            return False

    def listen(self, name: str) -> socket.socket:
        """A new listening socket in place of a stale one. Only under the lock."""
        path = self.socket_path(name)
        path.unlink(missing_ok=True)
        return transport.listen(path, tcp=self._tcp)

    def remove_stale(self, name: str) -> bool:
        """Unlink a socket whose worker is gone; False if somebody holds the lock."""
        with self.lock(name) as held:
            if held is None:
                return False
            self.socket_path(name).unlink(missing_ok=True)
            return True

    # deaths

    def _deaths_path(self, name: str) -> Path:
        return self.run / f"{name.partition('.')[0]}.deaths"

    def note_death(self, name: str, pid: int, how: str) -> None:
        """Count a death; every client that saw it may say so, it counts once."""
        line = f"{time.time():.3f} {pid} {how.replace(' ', '_') or '-'}\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        with suppress(OSError):  # no run folder, no count
            descriptor = os.open(self._deaths_path(name), flags, 0o600)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)

    def deaths(self, name: str, window: float = DEATHS_WINDOW) -> list[Death]:
        """The deaths of the last `window` seconds, oldest first, one a pid."""
        try:
            lines = self._deaths_path(name).read_text(errors="replace").splitlines()
        except OSError:
            return []
        now = time.time()
        found: dict[int, Death] = {}
        for line in lines:
            with suppress(ValueError):
                when, pid, how = line.split(" ", 2)
                death = Death(float(when), int(pid), how.replace("_", " "))
                if -1 < now - death.time < window:  # a clock set back counts nothing for ever
                    found.setdefault(death.pid, death)
        return list(found.values())

    def keeps_dying(self, name: str) -> bool:
        """Too many deaths in a minute to start it again unasked."""
        return len(self.deaths(name)) >= DEATHS_ALLOWED

    def forget_deaths(self, name: str) -> None:
        """Somebody asked for it: start counting anew."""
        self._deaths_path(name).unlink(missing_ok=True)


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
