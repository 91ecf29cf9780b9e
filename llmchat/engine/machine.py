"""What this machine can compute on, asked from a process that never loads llama.cpp itself.

Owns the short-lived process that does: llama.cpp may abort its own, and takes a third of a second
to import. Free memory is as of now, so nothing is kept. Refuses to place anything (`placing.py`).
"""

import subprocess
import sys
from collections.abc import Mapping

import msgspec

from llmchat.engine.client.starting import allowed
from llmchat.engine.protocol import Device
from llmchat.errors import EngineError

_PROBE = "llmchat.engine.worker.probe"
_PATIENCE = 60.0
"""Seconds; a driver that is being woken up takes some."""


def find_devices(environ: Mapping[str, str]) -> tuple[Device, ...]:
    """Every device with its free memory, GPUs and the CPU alike.

    Raises:
        EngineError: the engine cannot be started; the sentence has its last words.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
            env={**allowed(environ), "GGML_NO_BACKTRACE": "1"},
        )
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=tuple[Device, ...])
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise EngineError("engine.probe_failed", reason=last or str(error)) from error
    except (subprocess.SubprocessError, OSError, msgspec.MsgspecError, IndexError) as error:
        raise EngineError("engine.probe_failed", reason=str(error)) from error
