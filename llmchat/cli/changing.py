"""`llmchat chats set` and `settings`: what belongs to a conversation, and what is in force."""

from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from llmchat.cli.output import answer_json, table
from llmchat.cli.parameters import ChatId, PersonaName, PresetName
from llmchat.cli.parts import ask_core, open_settings
from llmchat.text import say

if TYPE_CHECKING:
    from llmchat.core.runtime import Runtime
    from llmchat.core.settings import Resolved


@click.command("set", help=say("cli.about_chats_set"))
@click.argument("chat", type=ChatId(), metavar="CHAT")
@click.option("--title", help=say("cli.opt_set_title"))
@click.option("--pin/--unpin", "pinned", default=None, help=say("cli.opt_set_pin"))
@click.option("--folder", help=say("cli.opt_set_folder"))
@click.option("--persona", type=PersonaName(), help=say("cli.opt_set_persona"))
@click.option("--preset", type=PresetName(), help=say("cli.opt_set_preset"))
@click.option("--no-tools", is_flag=True, help=say("cli.opt_set_no_tools"))
def set_chat(
    chat: str,
    title: str | None,
    pinned: bool | None,
    folder: str | None,
    persona: str | None,
    preset: str | None,
    no_tools: bool,
) -> None:
    """Only what is named is changed."""
    if (title, pinned, folder, persona, preset, no_tools) == (*(None,) * 5, False):
        raise click.UsageError(say("cli.nothing_to_set"))
    settings = open_settings(quiet=True)
    if persona:
        settings.personas.get(persona)
    if preset:
        settings.presets.get(preset)
    changes: dict[str, object] = {
        name: value or None
        for name, value in (("persona", persona), ("preset", preset))
        if value is not None
    }
    if no_tools:
        changes["tools"] = None

    async def change(rt: "Runtime") -> None:
        found = await rt.chats.find(chat)
        if title is not None:
            await rt.chats.rename(found.id, title)
        if pinned is not None:
            await rt.chats.pin(found.id, pinned)
        if folder is not None:
            await rt.chats.file_under(found.id, folder or None)
        if changes:
            await rt.chats.configure(found.id, replace(found.settings, **changes))

    ask_core(change)


@click.command("settings", help=say("cli.about_chats_settings"))
@click.argument("chat", type=ChatId(), metavar="CHAT")
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def show_settings(chat: str, as_json: bool) -> None:
    """What wins, field by field."""

    async def resolve(rt: "Runtime") -> "Resolved":
        return await rt.chats.resolved((await rt.chats.find(chat)).id)

    origins = ask_core(resolve).origins()
    if as_json:
        answer_json(origins)
        return
    rows = [(key, str(origin.value), origin.source) for key, origin in sorted(origins.items())]
    table(("SETTING", "VALUE", "FROM"), rows)
