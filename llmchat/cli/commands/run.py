"""`llmchat run`: one answer on stdout, or the chat on that model."""

import asyncio
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from llmchat.cli.answered import say_after, shown_of
from llmchat.cli.answering import Follower
from llmchat.cli.choosing import find_or_fetch, pick, pick_chat
from llmchat.cli.constraining import constraint_of, constraint_options
from llmchat.cli.options import (
    alternatives_option,
    answer_options,
    load_options,
    settings_of,
    shown_options,
)
from llmchat.cli.output import is_terminal, note
from llmchat.cli.parameters import ChatId, ModelName, PersonaName, PresetName
from llmchat.cli.parts import open_models, open_runtime, open_settings
from llmchat.cli.prompt import piped, question, system_prompt
from llmchat.cli.tooling import result_parts, tool_options, tools_of
from llmchat.errors import NotFound, UsageError
from llmchat.text import say
from llmchat.values import ChatSettings, Conversation, Part

if TYPE_CHECKING:
    from llmchat.core.runtime import Runtime

WHICH = "?"
"""`-r` without a conversation: a list asks which."""

THINKING = {"true": True, "on": True, "false": False, "off": False}
"""Words for `--think`; low, medium and high stand for themselves."""


class RunCommand(click.Command):
    """Reads `--think` like ollama, and tells who types llama.cpp's `-c 8192` what it means here."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Check and complete the words before click takes them apart."""
        end = args.index("--") if "--" in args else len(args)
        ours = ["--think=true" if word == "--think" else word for word in args[:end]]
        for word, following in pairwise(ours):
            if word == "-c" and following.isdecimal():
                raise click.UsageError(say("cli.meant_ctx_size", number=following), ctx=ctx)
        return super().parse_args(ctx, ours + args[end:])


class ModelThenPrompt(ModelName):
    """Completes model names for the first word only: the others are the prompt."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Names for the first word."""
        return [] if ctx.params.get("words") else super().shell_complete(ctx, param, incomplete)


@click.command(cls=RunCommand, help=say("cli.help_run"))
@click.argument("words", nargs=-1, type=ModelThenPrompt(), metavar="[MODEL] [PROMPT]...")
@click.option("-m", "--model", type=ModelName(), help=say("cli.opt_model"))
@click.option("--persona", type=PersonaName(), help=say("cli.opt_persona"))
@click.option("--preset", type=PresetName(), help=say("cli.opt_preset"))
@click.option("-s", "--system", metavar="TEXT", help=say("cli.opt_system"))
@click.option("--system-file", metavar="PATH", type=click.Path(), help=say("cli.opt_system_file"))
@click.option("-f", "--file", "files", multiple=True, type=click.Path(), help=say("cli.opt_file"))
@click.option("-c", "--continue", "again", is_flag=True, help=say("cli.opt_continue"))
@click.option(
    "-r", "--resume", type=ChatId(), is_flag=False, flag_value=WHICH, metavar="[CHAT]",
    help=say("cli.opt_resume"),
)  # fmt: skip
@click.option("--fork", is_flag=True, help=say("cli.opt_fork"))
@click.option("--no-save", is_flag=True, help=say("cli.opt_no_save"))
@click.option(
    "--think", type=click.Choice([*THINKING, "low", "medium", "high"]), help=say("cli.opt_think")
)
@alternatives_option
@shown_options
@tool_options
@constraint_options
@answer_options
@load_options
def run(**given: Any) -> int:  # noqa: ANN401 - click hands over three dozen flags by name
    """Parse, choose the model, then answer or open the screen."""
    ask = Ask(given)
    if not ask.text and not ask.files and not given["results"]:
        return _open_screen(ask)
    return ask.answer()


class Ask:
    """One `run`, as the command line describes it."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.old_chat = bool(given["again"] or given["resume"])
        words = list(given["words"])
        self.model: str | None = given["model"]
        if self.model is None and words and not self.old_chat and not _is_prose(words[0]):
            self.model = words.pop(0)
        if given["fork"] and not self.old_chat:
            raise UsageError("cli.fork_what")
        if given["resume"] == WHICH:
            given["resume"] = pick_chat()
        self.flags = _flags(given)  # what is wrong with them is said before stdin is read
        self.files = _attached(given["files"])
        self.text = question(words, piped())

    @property
    def parts(self) -> str | list[Part]:
        """What is sent: the attachments, then the words."""
        words = [Part(kind="text", text=self.text)] if self.text else []
        return [*self.files, *words] if self.files else self.text

    def answer(self) -> int:
        """Answer on stdout; asks which model on a terminal when nothing says."""
        name = find_or_fetch(self.model).name if self.model else None
        try:
            return asyncio.run(self._answer(name))
        except _NoModel:
            return asyncio.run(self._answer(pick().name))

    async def _answer(self, model: str | None) -> int:
        save = not self.given["no_save"]
        flags = replace(self.flags, model=model) if model else self.flags
        async with open_runtime("run", flags=flags, save=save) as runtime:
            chat = await self._chat(runtime, model)
            for notice in runtime.news():
                note(notice)
            wanted = self.given["alternatives"]
            turn = await runtime.chats.send(chat.id, await self._sent(runtime, chat), n=wanted)
            shown = shown_of(self.given)
            follower = Follower(runtime.chats, turn, shown)
            replies = await follower.follow()
        for notice in runtime.news():  # of the store, which may have had no room for this
            note(notice)
        by = follower.stopped_by
        return say_after(replies, shown, wanted=wanted, stopped_by=by, saved=save)

    async def _sent(self, runtime: "Runtime", chat: Conversation) -> str | list[Part]:
        """The words; or what tools answered to the calls of the last reply."""
        results = self.given["results"]
        if not results:
            return self.parts
        if self.text or self.files:
            raise UsageError("cli.result_alone")
        branch = await runtime.chats.branch(chat.id)
        return result_parts(results, branch[-1] if branch else None)

    async def _chat(self, runtime: "Runtime", model: str | None) -> Conversation:
        """The conversation to go on with, or a new one with this model and system prompt."""
        if self.old_chat:
            chat = await old_chat(runtime, self.given["resume"], fork=self.given["fork"])
            return await self._with_tools(runtime, chat)
        if model is None:
            found = runtime.models.default()
            if found is None:
                raise _NoModel
            model = found.name
        settings = ChatSettings(
            model=model,
            system=self.flags.system,
            persona=self.flags.persona,
            preset=self.flags.preset,
            tools=self.flags.tools,
        )
        return await runtime.chats.create(settings=settings, source="cli")

    async def _with_tools(self, runtime: "Runtime", chat: Conversation) -> Conversation:
        """The conversation offers the tools of this call from now on, if there are any."""
        if self.flags.tools is None or self.flags.tools == chat.settings.tools:
            return chat
        settings = replace(chat.settings, tools=self.flags.tools)
        return await runtime.chats.configure(chat.id, settings)


def _attached(patterns: Sequence[str]) -> list[Part]:
    if not patterns:
        return []
    from llmchat.cli.attaching import attach  # documents and encodings: only for who has files

    return attach(patterns)


class _NoModel(Exception):
    """Nothing says which model; asking must wait until the event loop is gone."""


async def old_chat(runtime: "Runtime", wanted: str | None, *, fork: bool) -> Conversation:
    """The conversation of `-r`, or with `-c` the last one; with `fork` a new one with its words.

    `wanted` may be a message's id for a fork: the new one ends there.

    Raises:
        NotFound: there is none.
    """
    chats = runtime.chats
    try:
        found = await chats.find(wanted) if wanted else await chats.last()
    except NotFound:
        if not fork or wanted is None:
            raise
        return await chats.fork((await chats.find_message(wanted)).id)
    if found is None:
        raise NotFound("cli.no_chat_yet")
    if fork and found.active_leaf is not None:
        return await chats.fork(found.active_leaf)
    return found


def _is_prose(word: str) -> bool:
    """Whether a first word cannot be a model's name, so that `run "What is ...?"` just works."""
    return any(c.isspace() for c in word) and "/" not in word and not word.endswith(".gguf")


def _flags(given: dict[str, Any]) -> ChatSettings:
    flags = settings_of(given)
    system = system_prompt(given["system"], given["system_file"])
    if system is not None:
        flags = replace(flags, system=system)
    if given["persona"]:
        persona = open_settings(quiet=True).personas.get(given["persona"])
        flags = replace(flags, persona=persona.name)
    if given["preset"]:
        preset = open_settings(quiet=True).presets.get(given["preset"])
        flags = replace(flags, preset=preset.name)
    if given["think"] is not None:
        flags = replace(flags, thinking=THINKING.get(given["think"], given["think"]))
    tools = tools_of(given["tools"]) or None
    return replace(flags, constraint=constraint_of(given), tools=tools)


def _open_screen(ask: Ask) -> int:
    """No prompt: the chat on that model, if there is a terminal to open it on."""
    from llmchat.cli.open_tui import open_tui

    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise UsageError("cli.no_prompt")
    if ask.given["no_save"]:
        raise UsageError("cli.no_save_needs_prompt")
    if ask.given["alternatives"] > 1:
        raise UsageError("cli.alternatives_need_prompt")
    if ask.flags.constraint is not None:
        raise UsageError("cli.constraint_needs_prompt")
    given = ask.given
    chat = asyncio.run(_chat_id(given["resume"], given["fork"])) if ask.old_chat else None
    model = find_or_fetch(ask.model).name if ask.model else None
    if model is None and chat is None and open_models().default() is None:
        model = pick().name
    return open_tui(conversation=chat, model=model, flags=ask.flags)


async def _chat_id(wanted: str | None, fork: bool) -> str:
    async with open_runtime("run") as runtime:
        return (await old_chat(runtime, wanted, fork=fork)).id
