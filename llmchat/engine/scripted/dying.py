"""How a scripted worker hangs and dies: at a stage that its script names, in every way there is.

Owns the ways: a signal to itself, an exit, an exception in the loop, and what goes wrong on the
socket while the process lives on. Refuses when a stage is reached: whoever works says so.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from llmchat.engine.scripted.script import SIGNALS, Script, Stage

if TYPE_CHECKING:
    from llmchat.engine.shell.serving import Shell

_PATIENCE: Final = 5.0
"""Seconds that the shell gets to do its part; a death that it holds up comes nevertheless."""


class Fate:
    """What a script has in store for a load or a request. Without a shell nobody dies."""

    def __init__(self, script: Script, shell: "Shell | None") -> None:
        self._script = script
        self._shell = shell
        self._passed: set[Stage] = set()

    def reach(self, stage: Stage) -> None:
        """Do what the script has for this stage, once. It may never return."""
        if stage in self._passed:
            return
        self._passed.add(stage)
        script, shell = self._script, self._shell
        if script.hang == stage:
            threading.Event().wait()
        if script.die is None or script.at != stage or shell is None:
            return
        if stage == "idle":
            # The request has ended: let its last frame leave, so that death finds us idle.
            _wait_until_sent(shell)
        _WAYS[script.die](script.die, shell)


def _by_signal(how: str, _shell: "Shell") -> None:
    os.kill(os.getpid(), signal.Signals[how])
    threading.Event().wait(_PATIENCE)


def _by_exit(how: str, _shell: "Shell") -> None:
    os._exit(int(how.removeprefix("exit")))


def _by_exception(_how: str, _shell: "Shell") -> None:
    raise RuntimeError("The script says so.")


def _on_the_socket(how: str, shell: "Shell") -> None:
    bytes_sent = {
        "close": b"",
        "garbage": b"\x00\x00\x00\x08garbage!",
        "half": b"\x00\x00\x10\x00half",
        "huge": b"\x7f\xff\xff\xff",
    }[how]
    done = threading.Event()

    def act() -> None:
        for connection in list(shell.connections.values()):
            with suppress(OSError):
                connection.sock.send(bytes_sent)
                if how in ("close", "half"):
                    connection.sock.shutdown(socket.SHUT_RDWR)
        done.set()

    shell.post(act)
    done.wait(_PATIENCE)


_WAYS: dict[str, Callable[[str, "Shell"], None]] = {
    **dict.fromkeys(SIGNALS, _by_signal),
    **dict.fromkeys(("exit0", "exit1"), _by_exit),
    "raise": _by_exception,
    **dict.fromkeys(("close", "garbage", "half", "huge"), _on_the_socket),
}


def _wait_until_sent(shell: "Shell") -> None:
    sent = threading.Event()

    def look() -> None:
        if any(connection.unsent for connection in shell.connections.values()):
            shell.post(look)
        else:
            sent.set()

    shell.post(look)
    sent.wait(_PATIENCE)
