"""What to leave out when a conversation does not fit: asked on a terminal, `stop` in a pipe.

The line is waited for without a thread, so that Ctrl+C and the end of the turn still get through.
"""

import asyncio
import sys

from llmchat.cli.output import ask, can_ask, note
from llmchat.core.events import ContextFull
from llmchat.text import say
from llmchat.values import ContextPolicy

ANSWERS: dict[str, ContextPolicy] = {
    "m": "drop-middle",
    "middle": "drop-middle",
    "o": "rolling",
    "oldest": "rolling",
    "n": "stop",
    "no": "stop",
    "s": "stop",
    "stop": "stop",
}
"""What a person may type; Enter alone is the first."""


async def choose_policy(full: ContextFull) -> ContextPolicy:
    """The policy that somebody wants; `stop` where nobody can be asked or input ends."""
    if not can_ask():
        return "stop"
    note(say("cli.context_full", tokens=full.tokens, budget=full.budget))
    while True:
        typed = await _ask(say("cli.context_choose"))
        if typed is None:
            return "stop"
        policy = ANSWERS.get(typed.lower() or "m")
        if policy is not None:
            return policy


async def _ask(question: str) -> str | None:
    """`output.ask` once there is a line to read."""
    note(question)
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return ask("")
