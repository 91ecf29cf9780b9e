"""A device that scripted workers share: a folder with a file for each process that holds memory.

Owns its free memory as a real device reports it: what a process held comes back little by little
after it has ended. For tests of memory between strangers.
"""

import os
import time
from contextlib import suppress
from pathlib import Path


class SharedDevice:
    """`total` bytes in `folder`; `late` seconds from a process's end until all of its are back."""

    def __init__(self, folder: Path, total: int, late: float) -> None:
        self._folder = folder
        self._late = late
        self.total = total

    def take(self, size: int) -> None:
        """Hold so many bytes until this process ends."""
        (self._folder / str(os.getpid())).write_text(str(size))

    def free(self) -> int:
        """Bytes that nobody holds now."""
        files = [path for path in self._folder.iterdir() if path.name.isdecimal()]
        held = sum(int(path.read_text() or 0) * self._share_held(path) for path in files)
        return self.total - int(held)

    def _share_held(self, path: Path) -> float:
        """How much of what a process held is still away; the first look after its end marks it."""
        with suppress(ProcessLookupError):
            os.kill(int(path.name), 0)
            return 1.0
        mark = path.with_suffix(".ended")
        with suppress(FileExistsError):
            mark.touch(exist_ok=False)
        gone = time.time() - mark.stat().st_mtime
        return max(0.0, 1.0 - gone / self._late) if self._late else 0.0
