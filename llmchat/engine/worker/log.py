"""What llama.cpp says: its log lines by their real levels, the last few hundred kept.

Owns the one log callback of the process and the ring. Refuses llama_cpp's own logger, whose level
table is shifted by one (it prints warnings and hides errors). The reason of a failed load exists
nowhere else than here.
"""

import ctypes
import sys
from collections import deque
from enum import IntEnum
from typing import Final

from llama_cpp import llama_cpp as lib

from llmchat.text.cleaning import clean_line


class Level(IntEnum):
    """`enum ggml_log_level` of ggml.h."""

    NONE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4
    CONT = 5


_installed: "list[LogRing]" = []
"""llama.cpp has one log callback a process and calls it until its end: keep it."""


class LogRing:
    """The last lines that llama.cpp logged. Thread-safe: one writer appends whole lines."""

    def __init__(self, size: int = 400, *, echo: Level = Level.WARN) -> None:
        self._lines: deque[tuple[Level, str]] = deque(maxlen=size)
        self._level = Level.INFO
        self._open = ""
        self._echo = echo
        # A CFUNCTYPE object that is collected while llama.cpp holds it is a crash: keep it.
        self._callback = lib.llama_log_callback(self._on_log)

    def install(self) -> None:
        """Make this ring the process's log. Never pass NULL: it prints 2,000 lines a context."""
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))
        _installed[:] = [self]

    def _on_log(self, level: int, text: bytes | None, _data: object) -> None:
        if level != Level.CONT:
            self._flush()
            self._level = Level(level) if level in Level._value2member_map_ else Level.INFO
        self._open += (text or b"").decode("utf-8", "replace")
        if self._open.endswith("\n"):
            self._flush()

    def _flush(self) -> None:
        line, self._open = self._open.rstrip(), ""
        if not line.strip(" ."):
            return
        if self._level > Level.DEBUG:
            self._lines.append((self._level, line))
        if self._level >= self._echo:
            print(line, file=sys.stderr, flush=True)  # noqa: T201  (the worker's log file)

    def last(self, count: int = 12) -> tuple[str, ...]:
        """The last warnings and errors; any lines when there are none. Cleaned."""
        lines = [(level, line) for level, line in list(self._lines) if line]
        bad = [line for level, line in lines if level >= Level.WARN] or [line for _, line in lines]
        return tuple(clean_line(line, 400) for line in bad[-count:])

    def clear(self) -> None:
        """Forget what was said, so that `reason` speaks of what comes next."""
        self._lines.clear()

    def reason(self) -> str:
        """Why the last load failed, as llama.cpp words it; empty when it said nothing.

        The first error is the cause; those after it repeat that loading failed.
        """
        for level, line in list(self._lines):
            if level == Level.ERROR:
                return clean_line(_without_function(line), 300)
        return ""


_PREFIXES: Final = ("error loading model: ", "error loading model hyperparameters: ")


def _without_function(line: str) -> str:
    """`llama_model_load: error loading model: X` -> `X`."""
    head, found, tail = line.partition(": ")
    text = tail if found and head.replace("_", "").isalnum() else line
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    return text.strip().rstrip(".")
