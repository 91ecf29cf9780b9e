"""A stand-in for the TUI: sets the modes that Textual sets, says READY, and dies as it is told."""

import ctypes
import faulthandler
import os
import signal
import sys
import termios
import threading
import time
import tty
from typing import Any

from llmchat.cli.guardian import stand_guard

ENTER = (
    "\x1b[?1049h\x1b[?1000h\x1b[?1003h\x1b[?1015h\x1b[?1006h\x1b[?25l\x1b[?1004h\x1b[>25u"
    "\x1b[?2048h\x1b[?2004h\x1b[?7l"
)
LEAVE = (
    "\x1b[?2004l\x1b[?7h\x1b[?2048l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[<u"
    "\x1b[?1049l\x1b[?25h\x1b[?1004l"
)


def enter() -> list[Any]:
    before = termios.tcgetattr(0)
    tty.setraw(0)
    os.write(2, ENTER.encode())
    return before


def leave(before: list[Any]) -> None:
    termios.tcsetattr(0, termios.TCSANOW, before)
    os.write(2, LEAVE.encode())


def suspend_on_tstp(before: list[Any]) -> None:
    """As Textual does it."""

    def stop(*_):
        leave(before)
        os.kill(os.getpid(), signal.SIGSTOP)

    def go_on(*_):
        enter()
        os.write(2, b"AWAKE")

    signal.signal(signal.SIGTSTP, stop)
    signal.signal(signal.SIGCONT, go_on)


def die(way: str) -> None:
    match way:
        case "exception":
            raise ValueError("a mistake")
        case "thread":
            thread = threading.Thread(target=lambda: os._exit(1))
            thread.start()
            thread.join()
        case "sys.exit":
            sys.exit(7)
        case "os._exit":
            os._exit(9)
        case "abort":
            os.abort()
        case "SEGV":
            ctypes.string_at(0)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    stand_guard()
    faulthandler.disable()
    before = enter()
    suspend_on_tstp(before)
    os.write(2, f"PID={os.getpid()} READY".encode())
    how = sys.argv[1]
    if how == "quit":
        leave(before)
        sys.exit(0)
    if how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(2, b" DEAF")
    die(how)
