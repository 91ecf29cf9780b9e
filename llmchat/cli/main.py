"""The program's entry: the version at once, then the commands, then one place for every failure.

Owns the order of these and the exit code. Refuses to import anything of weight before the version
has been answered: `llmchat --version` costs little more than starting Python.
"""

import os
import sys
from collections.abc import Sequence

from llmchat import __version__

_COMPLETE = "_LLMCHAT_COMPLETE"
"""A shell's completion script asks, without words of ours; see `program.py`."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words` (default: the process's own) and return its exit code."""
    given = list(sys.argv[1:] if words is None else words)
    if given in (["--version"], ["-V"]):
        return _say_version()
    try:
        if not given and _COMPLETE not in os.environ:  # click would delay the first key by 40 ms
            from llmchat.cli.open_tui import open_tui

            return open_tui()
        from llmchat.cli.program import run_program

        return run_program(given)
    except BaseException as error:  # noqa: BLE001 - the command line's one place for failures
        from llmchat.cli.failures import explain

        return explain(error)


def _say_version() -> int:
    try:
        sys.stdout.write(f"llmchat {__version__}\n")
        sys.stdout.flush()
    except (OSError, AttributeError):  # nobody reads it: closed pipe, closed stdout
        sys.stdout = None
    return 0
