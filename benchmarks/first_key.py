"""From starting the program to the echo of the first typed key, in a pseudo-terminal.

The key is typed again and again from the start, as an eager person would, until it appears on the
screen; a program that drops early keys is not punished twice. Against elia 1.10.0, a Textual chat
client, installed in an environment of its own (its Textual is older than ours).
"""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte

from benchmarks.measure import Figure, alternate, median, spread
from benchmarks.startup import installed

COLUMNS, LINES = 100, 30
KEY = "§"  # stands in neither program's own screen
DEADLINE = 60.0


def seconds_to_echo(command: list[str], environ: dict[str, str]) -> float:
    """Start `command` on a terminal of 100x30 and wait until a typed key shows on its screen."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environ | {"TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(follower)
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    last_key = 0.0
    try:
        while time.perf_counter() - begin < DEADLINE:
            now = time.perf_counter()
            if now - last_key > 0.02:
                os.write(leader, KEY.encode())
                last_key = now
            if select.select([leader], [], [], 0.005)[0]:
                stream.feed(os.read(leader, 65536))
                # Before raw mode the kernel itself echoes keys; only the program's own screen
                # (the alternate one, drawn in full) counts.
                drawn = sum(1 for line in screen.display if line.strip())
                if drawn >= 4 and any(KEY in line for line in screen.display[2:]):
                    return time.perf_counter() - begin
        raise TimeoutError(f"{command[0]} did not echo a key within {DEADLINE:.0f} s")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(leader)


def elia(folder: Path) -> list[str]:
    """The program elia 1.10.0, in an environment of its own, made once."""
    program = folder / "bin" / "elia"
    if not program.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", "elia-chat==1.10.0"], check=True)
    return [str(program)]


def measure(home: Path, elia_folder: Path, runs: int = 5) -> Figure:
    """One row: the first keystroke in llmchat against elia."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LLMCHAT_")}
    ours_env = environ | {"LLMCHAT_HOME": str(home)}
    theirs_env = environ | {"HOME": str(home), "OPENAI_API_KEY": "none"}
    theirs_command = elia(elia_folder)
    seconds_to_echo([installed()], ours_env)
    seconds_to_echo(theirs_command, theirs_env)
    ours, floor = alternate(
        runs,
        lambda: seconds_to_echo([installed()], ours_env),
        lambda: seconds_to_echo(theirs_command, theirs_env),
    )
    return Figure(
        what="first keystroke echoed in the TUI",
        against="elia 1.10.0",
        ours=median(ours),
        floor=median(floor),
        ratio=median(ours) / median(floor),
        reach="<= 0.5",
        unit="s",
        runs=runs,
        note=f"s {spread(ours)} against {spread(floor)}",
    )
