"""`llmchat chats set`: a conversation's title, folder, pin and persona."""

from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from llmchat.cli.parameters import ChatId, PersonaName
from llmchat.cli.parts import ask_core, open_settings
from llmchat.text import say

if TYPE_CHECKING:
    from llmchat.core.runtime import Runtime


@click.command("set", help=say("cli.about_chats_set"))
@click.argument("chat", type=ChatId(), metavar="CHAT")
@click.option("--title", help=say("cli.opt_set_title"))
@click.option("--pin/--unpin", "pinned", default=None, help=say("cli.opt_set_pin"))
@click.option("--folder", help=say("cli.opt_set_folder"))
@click.option("--persona", type=PersonaName(), help=say("cli.opt_set_persona"))
def set_chat(
    chat: str, title: str | None, pinned: bool | None, folder: str | None, persona: str | None
) -> None:
    """Only what is named is changed."""
    if (title, pinned, folder, persona) == (None, None, None, None):
        raise click.UsageError(say("cli.nothing_to_set"))
    if persona:
        open_settings(quiet=True).personas.get(persona)

    async def change(rt: "Runtime") -> None:
        found = await rt.chats.find(chat)
        if title is not None:
            await rt.chats.rename(found.id, title)
        if pinned is not None:
            await rt.chats.pin(found.id, pinned)
        if folder is not None:
            await rt.chats.file_under(found.id, folder or None)
        if persona is not None:
            settings = replace(found.settings, persona=persona or None)
            await rt.chats.configure(found.id, settings)

    ask_core(change)
