"""`llmchat chats tree`, `select` and `restore`: the versions of a conversation, and which is shown.

Owns drawing the tree. Refuses to ask a model: `rewriting.py` does.
"""

from collections import defaultdict
from typing import TYPE_CHECKING

import click

from llmchat.cli.output import answer_json, note, table
from llmchat.cli.parameters import ChatId
from llmchat.cli.parts import ask_core
from llmchat.errors import ExitCode, NotFound
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.values import Conversation, Message

if TYPE_CHECKING:
    from llmchat.core.runtime import Runtime

WORDS = 60
"""Characters of a message that the tree shows."""
INDENT = "· "
"""Once for every place above with several versions."""


@click.command("tree", help=say("cli.about_chats_tree"))
@click.argument("chat", type=ChatId(), metavar="CHAT")
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def show_tree(chat: str, as_json: bool) -> None:
    """Every message, below what it follows; `*` where the shown branch goes."""

    async def read(rt: "Runtime") -> tuple[Conversation, list[Message], set[str]]:
        conversation = await rt.chats.find(chat)
        shown = await rt.chats.branch(conversation.id)
        return conversation, await rt.chats.tree(conversation.id), {one.id for one in shown}

    conversation, messages, shown = ask_core(read)
    if as_json:
        answer_json({"conversation": conversation, "messages": messages})
        return
    rows = [
        ("*" if message.id in shown else "", message.id, message.role, _version(message),
         INDENT * depth + words_of(message))
        for depth, message in in_order(messages)
    ]  # fmt: skip
    table(("", "ID", "ROLE", "VERSION", "TEXT"), rows)


def in_order(messages: list[Message]) -> list[tuple[int, Message]]:
    """Each message before all that follows it, with the count of forks on its way.

    Args:
        messages: a whole tree, parents before what follows them.
    """
    below: dict[str | None, list[Message]] = defaultdict(list)
    for message in messages:
        below[message.parent].append(message)
    found: list[tuple[int, Message]] = []
    left = [(0, message) for message in reversed(below[None])]
    while left:
        depth, message = left.pop()
        if len(below[message.parent]) > 1:
            depth += 1
        found.append((depth, message))
        left += [(depth, following) for following in reversed(below[message.id])]
    return found


def words_of(message: Message) -> str:
    """What a message says, on one line; else what it is instead."""
    names = [part.meta.get("name", "") for part in message.parts if part.kind != "text"]
    words = message.text.strip() or ", ".join(filter(None, names)) or message.thinking
    return clean_line(words, WORDS) or f"({message.status})"


def _version(message: Message) -> str:
    count = len(message.siblings)
    return f"{message.siblings.index(message.id) + 1}/{count}" if count > 1 else ""


@click.command("select", help=say("cli.about_chats_select"))
@click.argument("message", metavar="MESSAGE")
def select_version(message: str) -> None:
    """The newest branch through it is shown from now on, and gone on with."""

    async def select(rt: "Runtime") -> Message:
        return (await rt.chats.select((await rt.chats.find_message(message)).id))[-1]

    last = ask_core(select)
    note(say("cli.selected_version", id=last.id, words=words_of(last)))


@click.command("restore", help=say("cli.about_chats_restore"))
@click.argument("name", metavar="CHAT|MESSAGE")
def restore_deleted(name: str) -> int:
    """A conversation, or a message with what followed it; code 3 when neither was deleted."""

    async def restore(rt: "Runtime") -> str:
        found = await rt.chats.named(name, deleted=True)
        if isinstance(found, Conversation):
            await rt.chats.undelete(found.id)
            return found.title or found.id
        if not await rt.chats.undelete_message(found.id):
            raise NotFound("cli.not_deleted", name=name)
        return words_of(found)

    note(say("cli.restored", what=ask_core(restore)))
    return ExitCode.OK
