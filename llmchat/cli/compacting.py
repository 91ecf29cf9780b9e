"""`llmchat chats compact`: the older part of a conversation summed up, as it is written."""

import asyncio

import click

from llmchat.cli.answering import Follower, answer_of
from llmchat.cli.output import answer_json, note
from llmchat.cli.parameters import ChatId, Whole
from llmchat.cli.parts import open_runtime
from llmchat.text import say


@click.command("compact", help=say("cli.about_chats_compact"))
@click.argument("chat", type=ChatId(), metavar="CHAT")
@click.option("--keep", type=Whole(1), default=2, show_default=True, help=say("cli.opt_keep"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def compact_chat(chat: str, keep: int, as_json: bool) -> None:
    """The summary to stdout, what became of it to stderr; Ctrl+C leaves all as it was."""

    async def run() -> None:
        async with open_runtime("chats") as rt:
            work = await rt.chats.compact((await rt.chats.find(chat)).id, keep=keep)
            follower = Follower(rt.chats, work, silent=as_json, thinking=False)
            summary = await follower.follow()
            if as_json:
                answer_json(answer_of(summary))
            note(say("cli.compacted", count=len(work.older)))

    asyncio.run(run())
