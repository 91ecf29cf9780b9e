"""The tiny parent that outlives the screen, whatever happens to it.

`stand_guard()` forks before Textual is imported. The child goes on with the program; the parent
imports nothing more, waits, and after any death of the child (exit, exception, SIGSEGV, abort,
kill -9) puts the terminal back and exits with the child's code, 128+n for signal n. Measured why:
Textual restores nothing on SIGSEGV, SIGKILL, abort or `os._exit`.

Owns signals between the two: TERM and HUP are passed on always, INT, QUIT and TSTP when somebody
sent them (a key reaches both already), and when the child stops the parent stops too, so that the
shell gets its prompt; CONT wakes both, once. The child dies with the parent.
"""

import os
import signal
import sys
import time
from contextlib import suppress

from llmchat.cli.terminal import TerminalModes
from llmchat.text import say

GRACE_SECONDS = 5
"""From TERM or HUP until a child that does not leave is killed."""

_ASKED_TO_LEAVE = frozenset({signal.SIGTERM, signal.SIGHUP})
_FROM_KEYS = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP})
_WAITED = _ASKED_TO_LEAVE | _FROM_KEYS | {signal.SIGCHLD, signal.SIGALRM}
# TTOU and TTIN are blocked so that modes can be put back from the background, too.
_BLOCKED = _WAITED | {signal.SIGTTOU, signal.SIGTTIN}


def stand_guard() -> None:
    """Split in two. Returns in the child; the parent ends inside with the child's exit code."""
    modes = TerminalModes()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an inherited SIG_IGN would lose its status
    alive, held = os.pipe()  # EOF on `alive` tells the child that the parent is gone
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(held)
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
        _die_with(parent, alive)
        return
    os.close(alive)
    os._exit(_Guard(child, modes).wait())


class _Guard:
    """The parent's side: waits for signals and for the child."""

    def __init__(self, child: int, modes: TerminalModes) -> None:
        self._child = child
        self._modes = modes
        # What nohup or a background shell had ignored stays ignored.
        self._waited = {n for n in _WAITED if signal.getsignal(n) != signal.SIG_IGN}
        self._asked: int = 0
        """The signal we passed on that asks the child to leave."""

    def wait(self) -> int:
        """Serve signals until the child is dead; the exit code to leave with."""
        while True:
            number, by_key = _next_signal(self._waited)
            if number == signal.SIGCHLD:
                status = self._look()
                if status is not None:
                    return self._bury(status)
            elif number == signal.SIGALRM:
                self._send(signal.SIGKILL)
            elif not by_key or number in _ASKED_TO_LEAVE:
                self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        if number in _ASKED_TO_LEAVE:
            self._asked = number
            signal.alarm(GRACE_SECONDS)
        self._send(number)

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._child, number)

    def _look(self) -> int | None:
        """The child's status once it is dead; a stop of the child stops us, too."""
        while True:
            found, status = os.waitpid(self._child, os.WNOHANG | os.WUNTRACED)
            if found == 0:
                return None
            if not os.WIFSTOPPED(status):
                return status
            self._stop_too()

    def _stop_too(self) -> None:
        if self._asked:  # leaving: do not sleep on it; awake, the child hears what it was sent
            self._send(signal.SIGCONT)
            return
        if self._modes.changed:  # stopped in the middle (kill -STOP): the shell needs its modes
            self._modes.restore(leave_screen=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        # Awake. `fg` wakes the whole group; a CONT for us alone must reach the child, but not
        # twice: Textual starts its input thread on each.
        deadline = time.monotonic() + 0.1
        while time.monotonic() < deadline:
            found, status = os.waitpid(self._child, os.WNOHANG | os.WCONTINUED)
            if found and os.WIFCONTINUED(status):
                return
            time.sleep(0.005)
        self._send(signal.SIGCONT)

    def _bury(self, status: int) -> int:
        died_of = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        self._modes.restore(leave_screen=bool(died_of) or self._modes.changed)
        if not died_of:
            code = os.WEXITSTATUS(status)
            return 128 + self._asked if self._asked and code == 0 else code
        self._modes.say(say(_sentence_key(died_of), signal=signal.Signals(died_of).name))
        return 128 + died_of


def _sentence_key(died_of: int) -> str:
    asked = died_of in _ASKED_TO_LEAVE | {signal.SIGINT, signal.SIGQUIT}
    return "cli.screen_ended" if asked else "cli.screen_died"


def _next_signal(waited: set[signal.Signals]) -> tuple[int, bool]:
    """The next signal for us, and whether the kernel sent it (a key) to the whole group."""
    if hasattr(signal, "sigwaitinfo"):  # macOS has none
        info = signal.sigwaitinfo(waited)
        return info.si_signo, info.si_code > 0
    return signal.sigwait(waited), False


def _die_with(parent: int, alive: int) -> None:
    """In the child: TERM when the parent is gone, so that the screen still leaves in order."""
    if sys.platform == "linux":
        import ctypes

        PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
        if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) == 0:
            os.close(alive)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
            return
    import threading

    threading.Thread(target=_watch, args=(alive,), name="guardian", daemon=True).start()


def _watch(alive: int) -> None:
    with suppress(OSError):
        os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)
