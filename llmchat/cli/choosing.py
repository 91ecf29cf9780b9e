"""Which model or conversation a command means, and what to do when nothing says.

On a terminal a missing model is pulled after a question (the starter at once), and without a name
a numbered list asks. In a pipe nothing is guessed: an error names the next step.
"""

import asyncio

from llmchat.cli.amounts import ago, size
from llmchat.cli.fetching import fetch, look_up, say_plan
from llmchat.cli.output import ask, can_ask, note
from llmchat.cli.parts import open_fits, open_models, open_runtime
from llmchat.core.downloads import DownloadPlan
from llmchat.errors import EngineError, Interrupted, NotFound, UsageError
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.values import Conversation, ModelFile

STARTER = "smollm2:135m"


def find_or_fetch(ref: str) -> ModelFile:
    """The model that `ref` means; on a terminal, one that is not here is pulled.

    Raises:
        NotFound: it is not here, and nobody can be asked or wants it.
    """
    try:
        return open_models().resolve(ref)
    except NotFound:
        if not can_ask():
            raise
        plan = look_up(ref)
        if not plan.complete and not _wanted(plan):
            raise
    return fetch(plan)


def _wanted(plan: DownloadPlan) -> bool:
    say_plan(plan)
    if plan.name == STARTER:
        return True
    return (ask(say("cli.pull_ask")) or "y").lower() in ("y", "yes")


def pick() -> ModelFile:
    """Ask which model: those on this disk, and the starter.

    Raises:
        NotFound: nobody can be asked. Interrupted: the person left.
    """
    here = open_models().list()
    if not can_ask():
        raise NotFound("cli.no_default" if here else "cli.no_model_here", starter=STARTER)
    starter = None if any(model.name == STARTER for model in here) else STARTER
    note(say("cli.pick"))
    fits = _fits(here)
    for number, model in enumerate(here, 1):
        facts = ", ".join(filter(None, (size(model.size), fits.get(model.name))))
        note(f"  {number:2}  {model.name}  ({facts})")
    if starter:
        note(f"  {len(here) + 1:2}  {starter}  ({say('cli.pick_starter')})")
    names = [model.name for model in here] + ([starter] if starter else [])
    return find_or_fetch(names[_number_of(names)])


def _fits(models: list[ModelFile]) -> dict[str, str]:
    """What fits this machine now, in words, by name; empty where the machine cannot be asked."""
    try:
        found = open_fits().each(models) if models else {}
    except EngineError:
        return {}
    return {name: say(f"cli.pick_{verdict}") for name, verdict in found.items()}


def pick_chat() -> str:
    """Ask which conversation to go on with; its id.

    Raises:
        UsageError: nobody can be asked. NotFound: there is none. Interrupted: the person left.
    """
    if not can_ask():
        raise UsageError("cli.resume_which")
    chats = asyncio.run(_last_chats())
    if not chats:
        raise NotFound("cli.no_chat_yet")
    note(say("cli.pick_chat"))
    for number, chat in enumerate(chats, 1):
        note(f"  {number:2}  {clean_line(chat.title, 60) or '-'}  ({ago(chat.updated)})")
    return chats[_number_of([chat.title for chat in chats])].id


async def _last_chats() -> list[Conversation]:
    async with open_runtime("run") as runtime:
        return await runtime.chats.list(limit=20, include_cli=True)


def _number_of(names: list[str]) -> int:
    """Which of the names is meant, by its number or a part of it; Enter takes the first."""
    while True:
        typed = ask(say("cli.pick_number", count=len(names)))
        if typed is None or typed.lower() in ("q", "quit"):
            raise Interrupted
        if not typed:
            return 0
        if typed.isdecimal() and 1 <= int(typed) <= len(names):
            return int(typed) - 1
        near = [i for i, name in enumerate(names) if typed.lower() in name.lower()]
        if len(near) == 1:
            return near[0]
