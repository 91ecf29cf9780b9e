"""What a person sees when something goes wrong: one sentence, one next step, an exit code.

Owns the way from any exception to stderr and the exit code. A traceback is shown only with
LLMCHAT_DEBUG=1; else a mistake of ours is written to the log folder and named in one sentence.
"""

import os
import sys
import time
import traceback
from contextlib import suppress

import click

from llmchat import __version__
from llmchat.cli.output import ReaderGone, drop_streams, note
from llmchat.errors import ExitCode, Interrupted, LlmchatError, WorkerDied
from llmchat.text import say

ENGINE_LINES = 5
"""How many of the engine's own last lines a death shows."""


def explain(error: BaseException) -> int:
    """Say `error` on stderr and return the exit code it stands for. Never raises."""
    try:
        code = _explain(error)
        # What stdout could not take would be tried again at exit, and change the code to 120.
        if sys.stdout is not None:
            sys.stdout.flush()
    except (ReaderGone, OSError, ValueError):  # a stream is gone: only the code is left
        drop_streams()
        return _code(error)
    return code


def _explain(error: BaseException) -> int:
    if isinstance(error, ReaderGone | BrokenPipeError):
        drop_streams()
        return ExitCode.OK
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else ExitCode.FAILED
    if isinstance(error, LlmchatError):
        _say_known(error)
    elif isinstance(error, KeyboardInterrupt | click.Abort):
        note(Interrupted().sentence)
    elif isinstance(error, click.ClickException):
        _say_usage(error)
    else:
        _say_unexpected(error)
    if os.environ.get("LLMCHAT_DEBUG") == "1":
        note("".join(traceback.format_exception(error)).rstrip())
    return _code(error)


def _code(error: BaseException) -> int:
    if isinstance(error, LlmchatError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return ExitCode.INTERRUPTED
    return ExitCode.USAGE if isinstance(error, click.UsageError) else ExitCode.FAILED


def _say_known(error: LlmchatError) -> None:
    note(error.sentence)
    if isinstance(error, WorkerDied):
        for line in error.last_lines[-ENGINE_LINES:]:
            note(f"  {line.rstrip()}")
    if error.hint:
        note(error.hint)


def _say_usage(error: click.ClickException) -> None:
    note(error.format_message())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        note(say("cli.usage_hint", command=error.ctx.command_path))


def _say_unexpected(error: BaseException) -> None:
    reason = str(error) or type(error).__name__
    note(say("cli.unexpected", kind=type(error).__name__, reason=reason.splitlines()[0]))
    if os.environ.get("LLMCHAT_DEBUG") == "1":
        return
    place = _write_report(error)
    note(say("cli.report_written", path=place) if place else say("cli.report_debug"))


def _write_report(error: BaseException) -> str | None:
    """The path of the report, or None when it cannot be written. It holds no one's words."""
    from llmchat.paths import ensure_private, find_places

    text = "".join(traceback.format_exception(error))
    with suppress(OSError, LlmchatError):
        folder = ensure_private(find_places().logs)
        path = folder / time.strftime(f"report-%Y%m%d-%H%M%S-{os.getpid()}.txt")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"llmchat {__version__}\n{text}")
        return str(path)
    return None
