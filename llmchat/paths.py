"""Where things live: the only module that knows.

Owns the places of configuration, data, state, cache, logs and sockets. `LLMCHAT_HOME` moves all of
them under one folder. Refuses the Hugging Face cache, which is not ours (`library/` finds it), and
has no side effect until `ensure_private` is called.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmchat.errors import ConfigError

MAX_RUN_BYTES = 74
"""Room for `/` + 25 characters of a socket's name within macOS's 103 bytes (Linux: 107)."""


@dataclass(frozen=True, slots=True)
class Places:
    """Absolute folders, none of which need exist."""

    config: Path
    data: Path
    state: Path
    cache: Path
    logs: Path
    run: Path
    """Sockets and locks; found the same way by every process, so no XDG_RUNTIME_DIR here."""
    machine: Path
    """Locks that hold for all of a user's homes: the load lock. LLMCHAT_MACHINE moves it."""

    @property
    def config_file(self) -> Path:
        """The user's settings."""
        return self.config / "config.toml"

    @property
    def personas(self) -> Path:
        """Files of settings under a name."""
        return self.config / "personas"

    @property
    def database(self) -> Path:
        """The conversations."""
        return self.data / "llmchat.db"

    @property
    def presets(self) -> Path:
        """The folder of presets."""
        return self.config / "presets"

    @property
    def blobs(self) -> Path:
        """The folder of attached images, by content hash."""
        return self.data / "blobs"

    @property
    def drafts(self) -> Path:
        """What was typed and attached, and not yet sent."""
        return self.state / "drafts.json"

    @property
    def kv(self) -> Path:
        """Saved KV states."""
        return self.cache / "kv"


def find_places(environ: Mapping[str, str] = os.environ) -> Places:
    """The places for this user: under LLMCHAT_HOME if set, else where the system wants them."""
    home = environ.get("LLMCHAT_HOME")
    if home:
        root = Path(home).expanduser().absolute()
        return Places(
            config=root / "config",
            data=root / "data",
            state=root / "state",
            cache=root / "cache",
            logs=root / "logs",
            run=_short_enough(root / "run"),
            machine=_machine(environ),
        )
    from platformdirs import PlatformDirs  # 57 ms that LLMCHAT_HOME and --version do not pay

    dirs = PlatformDirs("llmchat", appauthor=False)
    state = Path(dirs.user_state_dir)
    return Places(
        config=Path(dirs.user_config_dir),
        data=Path(dirs.user_data_dir),
        state=state,
        cache=Path(dirs.user_cache_dir),
        logs=Path(dirs.user_log_dir),
        run=_short_enough(state / "run"),
        machine=_machine(environ),
    )


def _machine(environ: Mapping[str, str]) -> Path:
    # /tmp for the same reason as below; tests have a folder of their own.
    return Path(environ.get("LLMCHAT_MACHINE") or f"/tmp/llmchat-{os.getuid()}").absolute()


def _short_enough(run: Path) -> Path:
    """`run` itself, or a short stand-in whose name every process computes alike.

    /tmp on purpose, not TMPDIR: two terminals may differ in TMPDIR and must still meet.
    """
    if len(os.fsencode(run)) <= MAX_RUN_BYTES:
        return run
    digest = hashlib.sha256(os.fsencode(run)).hexdigest()[:8]
    return Path(f"/tmp/llmchat-{os.getuid()}-{digest}")


def ensure_private(folder: Path) -> Path:
    """Make `folder` ours alone (0700), and the parents that are missing; return it.

    Raises:
        ConfigError: it cannot be made, is a link, or belongs to somebody else.
    """
    try:
        # Not `parents=True`: it gives them the process's own umask, not 0700.
        for missing in [p for p in reversed(folder.parents) if not p.exists()]:
            missing.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigError("paths.not_a_folder", path=str(folder))
        if found.st_uid != os.getuid():
            raise ConfigError("paths.not_ours", path=str(folder))
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            "paths.unwritable", path=str(folder), reason=error.strerror or str(error)
        ) from error
    return folder
