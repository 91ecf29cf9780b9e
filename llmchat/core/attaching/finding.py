"""Which files a person means by a path, a folder or a pattern like `src/**/*.py`.

A file that is named itself is always meant. In folders, hidden files, what `.gitignore` excludes
and links to other folders are passed over; only regular files are found: a FIFO would never end.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.errors import NotFound, UsageError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

MAX_FILES = 500
"""Files that one pattern may mean; more is a mistake in it."""

MAX_LOOKED_AT = 200_000
"""Names that are looked at for one pattern, so that `/**` ends."""

_GLOB = re.compile(r"[*?\[]")

IGNORE_FILE = ".gitignore"
_IGNORE_BYTES = 256 * 1024


def find(pattern: str, base: Path) -> list[Path]:
    """The files that are meant, in the order of their names.

    Args:
        pattern: a path, or one with `*`, `?`, `[...]` and `**`; `~` is the home folder.
        base: the folder that relative paths begin at.

    Raises:
        NotFound: there is no such file, or none that fits.
        UsageError: more than `MAX_FILES` fit.
    """
    path = base / os.path.expanduser(pattern)
    try:
        if path.is_file() or is_pipe(path):
            return [path]
        is_folder = path.is_dir()
        if not is_folder and not _GLOB.search(pattern):
            kind = "core.not_a_file" if path.exists() else "core.no_such_file"
            raise NotFound(kind, path=pattern)
    except (OSError, ValueError) as error:  # too long, or with a NUL
        raise NotFound("core.no_such_file", path=pattern) from error
    top, rest = (path, "**") if is_folder else _split(path)
    found = sorted(_matching(top, rest, pattern))
    if not found:
        raise NotFound("core.no_file_fits", pattern=pattern)
    return found


def browse(folder: Path, most: int = 5_000) -> list[str]:
    """Names of the files below a folder to choose from: at most so many, nearest first."""
    found: list[str] = []
    try:
        for path in _walk(folder, hidden_too=False, pattern=str(folder)):
            found.append(path.relative_to(folder).as_posix())
            if len(found) >= most:
                break
    except UsageError:  # too many to look at: what has been seen will do
        pass
    return sorted(found, key=lambda name: (name.count("/"), name.lower()))


def is_pipe(path: Path) -> bool:
    """Whether it is what a shell makes of `<(command)`: it ends when the command does."""
    return path.parent == Path("/dev/fd") and path.is_fifo()


def _split(path: Path) -> tuple[Path, str]:
    """The folder before the first part with a sign of a pattern, and the rest."""
    parts = path.parts
    place = next(index for index, part in enumerate(parts) if _GLOB.search(part))
    return Path(*parts[:place]), "/".join(parts[place:])


def _matching(top: Path, rest: str, pattern: str) -> Iterator[Path]:
    from pathspec import PathSpec  # only who attaches folders pays for it

    wanted = PathSpec.from_lines("gitignore", ["/" + rest])
    hidden_too = any(part.startswith(".") for part in rest.split("/"))
    count = 0
    for path in _walk(top, hidden_too=hidden_too, pattern=pattern):
        if wanted.match_file(path.relative_to(top).as_posix()):
            count += 1
            if count > MAX_FILES:
                raise UsageError("core.too_many_files", pattern=pattern, limit=MAX_FILES)
            yield path


def _walk(top: Path, *, hidden_too: bool, pattern: str) -> Iterator[Path]:
    """Every regular file below `top` that is neither hidden nor ignored."""
    rules = _Ignored(top)
    looked_at = 0
    for folder, folders, files in os.walk(top):
        here = Path(folder)
        rules.enter(here)
        looked_at += len(files) + len(folders)
        if looked_at > MAX_LOOKED_AT:
            raise UsageError("core.too_many_files", pattern=pattern, limit=MAX_FILES)
        folders[:] = sorted(
            name
            for name in folders
            if (hidden_too or not name.startswith("."))
            and name != ".git"
            and not rules.match(here / name, folder=True)
        )
        for name in files:
            path = here / name
            if not hidden_too and name.startswith("."):
                continue
            if path.is_file() and not rules.match(path, folder=False):
                yield path


class _Ignored:
    """The `.gitignore` files from the repository's top down to here; the nearest decides."""

    def __init__(self, top: Path) -> None:
        self._rules: list[tuple[Path, GitIgnoreSpec]] = []
        top = top.absolute()
        above = [top, *top.parents]
        root = next((folder for folder in above if (folder / ".git").exists()), None)
        if root is not None:
            for folder in reversed(above[1 : above.index(root) + 1]):
                self.enter(folder)

    def enter(self, folder: Path) -> None:
        """Read a folder's rules; those of folders beside it no longer count."""
        from pathspec import GitIgnoreSpec

        folder = folder.absolute()
        self._rules = [rule for rule in self._rules if folder.is_relative_to(rule[0])]
        try:
            with (folder / IGNORE_FILE).open("rb") as file:
                text = file.read(_IGNORE_BYTES).decode("utf-8", "replace")
            self._rules.append((folder, GitIgnoreSpec.from_lines(text.splitlines())))
        except (OSError, ValueError):  # none, or one that git would complain about
            return

    def match(self, path: Path, *, folder: bool) -> bool:
        """Whether a path is excluded."""
        path = path.absolute()
        for top, spec in reversed(self._rules):
            name = path.relative_to(top).as_posix() + ("/" if folder else "")
            if (decided := spec.check_file(name).include) is not None:
                return decided
        return False
