"""Where a scripted worker would lie: a plan for the client, asked for as real ones are.

Owns the talk before memory is taken: what is free, what falls short, and what the client says to
it. Refuses the device itself, and its memory that comes back late (`device.py`).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from llmchat.engine.backend import Verdict
from llmchat.engine.protocol import Device, Placement, Plan
from llmchat.engine.scripted.device import SharedDevice
from llmchat.engine.scripted.script import Script
from llmchat.engine.settling import settle
from llmchat.errors import EngineError

MIB: Final = 1024 * 1024
ALONE: Final = "CPU", 64 * MIB
"""Without a device in the script: where it lies, and what it takes."""
FREE: Final = 4096 * MIB
"""What is free there, always."""


def place(
    script: Script, proceed: Callable[[Plan], Verdict], wait: Callable[[float], object]
) -> Placement:
    """Memory of the script's device, or of nobody's; `wait` sleeps so many seconds at most.

    Raises:
        EngineError: the client gave up, or went on although the device is full.
    """
    device = _device_of(script)
    name, needs = ("SIM0", script.needs * MIB) if device else ALONE
    placement = Placement(n_layers=4, memory={name: needs}, explanation="scripted")

    def free() -> int:
        return device.free() if device else FREE

    while True:
        plan = _plan(placement, name, needs, free())
        verdict = proceed(plan)
        if verdict is Verdict.STOP:
            raise EngineError("engine.load_given_up")
        if verdict is Verdict.AGAIN:
            settle(lambda: {name: free()}, clock=time.monotonic, wait=wait)
        elif plan.short:
            raise EngineError("engine.failed", reason="The device is full.")
        else:
            if device:
                device.take(needs)
            return placement


def _device_of(script: Script) -> SharedDevice | None:
    if not script.device:
        return None
    return SharedDevice(Path(script.device), script.total * MIB, script.late)


def _plan(placement: Placement, name: str, needs: int, free: int) -> Plan:
    return Plan(
        devices=(Device(name=name, description="scripted", free=free, total=2 * free),),
        needs=placement.memory,
        short={name: needs - free} if needs > free else {},
        placement=placement,
    )
