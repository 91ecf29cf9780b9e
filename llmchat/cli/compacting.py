"""`llmchat chats compact` and `summary`: the older part of a conversation in the model's words.

And in the user's: a summary can be changed, as a version beside the one before.
"""

import asyncio
from typing import TYPE_CHECKING

import click

from llmchat.cli.answered import Shown, answer_of
from llmchat.cli.answering import Follower
from llmchat.cli.output import answer_json, can_ask, note, write_answer
from llmchat.cli.parameters import ChatId, Whole
from llmchat.cli.parts import ask_core, open_runtime
from llmchat.cli.prompt import given_words
from llmchat.core.prompting import is_summary
from llmchat.errors import NotFound, UsageError
from llmchat.text import say
from llmchat.text.cleaning import clean

if TYPE_CHECKING:
    from llmchat.core.runtime import Runtime
    from llmchat.values import Message


@click.command("compact", help=say("cli.about_chats_compact"))
@click.argument("chat", type=ChatId(), metavar="CHAT")
@click.option("--keep", type=Whole(1), default=2, show_default=True, help=say("cli.opt_keep"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def compact_chat(chat: str, keep: int, as_json: bool) -> None:
    """The summary to stdout, what became of it to stderr; Ctrl+C leaves all as it was."""

    async def run() -> None:
        async with open_runtime("chats") as rt:
            work = await rt.chats.compact((await rt.chats.find(chat)).id, keep=keep)
            follower = Follower(rt.chats, work, Shown(as_json=as_json, thinking=False))
            for summary in await follower.follow():
                if as_json:
                    answer_json(answer_of(summary))
            note(say("cli.compacted", count=len(work.older)))

    asyncio.run(run())


@click.command("summary", help=say("cli.about_chats_summary"))
@click.argument("chat", type=ChatId(), metavar="CHAT")
@click.option("--set", "words", metavar="TEXT", help=say("cli.opt_summary_set"))
@click.option("--edit", is_flag=True, help=say("cli.opt_summary_edit"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def show_summary(chat: str, words: str | None, edit: bool, as_json: bool) -> None:
    """Shown, or replaced: the version before stays, with what followed it."""
    if edit and (words is not None or not can_ask()):
        raise UsageError("cli.edit_needs_terminal")
    found = ask_core(lambda rt: _summary(rt, chat))
    if edit:
        words = click.edit(found.text)  # None: left as it was
    elif words is not None:
        words = given_words(words)
    if words is not None and words.rstrip("\n") != found.text:
        new = words.rstrip("\n")
        found = ask_core(lambda rt: _replace(rt, found.id, new))
        note(say("cli.summary_changed"))
    if as_json:
        answer_json(found)
    else:
        write_answer(clean(found.text) + "\n")


async def _summary(rt: "Runtime", chat: str) -> "Message":
    """The summary that the shown branch begins with.

    Raises:
        NotFound: it has none.
    """
    conversation = await rt.chats.find(chat)
    for message in await rt.chats.branch(conversation.id):
        if is_summary(message):
            return message
    raise NotFound("cli.no_summary")


async def _replace(rt: "Runtime", message: str, words: str) -> "Message":
    changed = await rt.chats.edit(message, words, rerun=False)
    return await rt.chats.message(changed.id)
