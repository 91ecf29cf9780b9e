"""`llmchat chats`: the conversations, from the command line."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from llmchat.cli.amounts import ago
from llmchat.cli.carrying import export_chats, import_chats
from llmchat.cli.changing import set_chat, show_settings
from llmchat.cli.compacting import compact_chat, show_summary
from llmchat.cli.output import answer_json, ask, can_ask, note, table, write_answer
from llmchat.cli.parameters import ChatId, ModelName, Whole
from llmchat.cli.parts import ask_core
from llmchat.cli.replaying import replay_chat
from llmchat.cli.rewriting import continue_reply, edit_message, regenerate_reply
from llmchat.cli.versions import (
    restore_deleted,
    select_version,
    show_tree,
    words_of,
)
from llmchat.errors import ExitCode, UsageError
from llmchat.text import say
from llmchat.text.cleaning import clean
from llmchat.values import Conversation, Message

if TYPE_CHECKING:
    from llmchat.core.remembering import SortKey
    from llmchat.core.runtime import Runtime


SORTS: tuple["SortKey", ...] = ("used", "created", "title")

DAY = click.DateTime(["%Y-%m-%d"])
"""A day by this machine's clock."""


@click.group(help=say("cli.about_chats"), invoke_without_command=True)
@click.pass_context
def chats(ctx: click.Context) -> None:
    """Alone: the list."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(
            list_chats, as_json=False, limit=50, everything=False, folder=None, sort="used",
            deleted=False,
        )  # fmt: skip


@chats.command("list", help=say("cli.about_chats_list"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
@click.option("--limit", type=Whole(1), default=50, help=say("cli.opt_limit"))
@click.option("-a", "--all", "everything", is_flag=True, help=say("cli.opt_all_chats"))
@click.option("--folder", help=say("cli.opt_list_folder"))
@click.option("--deleted", is_flag=True, help=say("cli.opt_list_deleted"))
@click.option("--sort", type=click.Choice(SORTS), default="used", help=say("cli.opt_list_sort"))
def list_chats(
    as_json: bool,
    limit: int,
    everything: bool,
    folder: str | None,
    deleted: bool,
    sort: "SortKey",
) -> None:
    """Pinned ones first; one-shot questions only with --all."""
    found = ask_core(
        lambda rt: rt.chats.list(
            limit=limit,
            include_cli=everything or deleted,
            deleted=deleted,
            folder=folder,
            sort=sort,
        )
    )
    if as_json:
        answer_json(found)
        return
    rows = [
        (c.id, c.title or "-", c.folder or "-", c.settings.model or "-", ago(c.updated))
        for c in found
    ]
    table(("ID", "TITLE", "FOLDER", "MODEL", "UPDATED"), rows)


@chats.command("show", help=say("cli.about_chats_show"))
@click.argument("chat", type=ChatId(), metavar="CHAT")
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def show_chat(chat: str, as_json: bool) -> None:
    """The active branch, as Markdown."""
    if as_json:
        conversation, messages = ask_core(lambda rt: _read(rt, chat))
        answer_json({"conversation": conversation, "messages": messages})
    else:
        write_answer(clean(ask_core(lambda rt: _markdown(rt, chat))))


for _command in (
    compact_chat,
    continue_reply,
    edit_message,
    export_chats,
    import_chats,
    regenerate_reply,
    replay_chat,
    restore_deleted,
    select_version,
    set_chat,
    show_settings,
    show_summary,
    show_tree,
):
    chats.add_command(_command)


@chats.command("search", help=say("cli.about_chats_search"))
@click.argument("words", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
@click.option("--limit", type=Whole(1), default=50, help=say("cli.opt_limit"))
@click.option("--model", type=ModelName(), help=say("cli.opt_search_model"))
@click.option("--since", type=DAY, metavar="DAY", help=say("cli.opt_since"))
@click.option("--until", type=DAY, metavar="DAY", help=say("cli.opt_until"))
def search_chats(
    words: tuple[str, ...],
    as_json: bool,
    limit: int,
    model: str | None,
    since: datetime | None,
    until: datetime | None,
) -> int:
    """Every conversation, one-shot questions too; code 3 when nothing fits, as grep has one."""
    text = " ".join(words)
    first = since.timestamp() if since else None
    last = (until + timedelta(days=1)).timestamp() if until else None
    hits = ask_core(
        lambda rt: rt.chats.search(text, limit=limit, model=model, since=first, until=last)
    )
    if as_json:
        answer_json(hits)
    elif hits:
        plain = str.maketrans({"\x01": "", "\x02": ""})  # the marks around what matched
        rows = [(h.conversation, h.role or "title", h.snippet.translate(plain)) for h in hits]
        table(("ID", "ROLE", "TEXT"), rows)
    else:
        note(say("cli.no_hits"))
    return ExitCode.OK if hits else ExitCode.NOT_FOUND


@chats.command("rm", help=say("cli.about_chats_rm"))
@click.argument("names", nargs=-1, required=True, type=ChatId(), metavar="CHAT|MESSAGE...")
@click.option("-y", "--yes", is_flag=True, help=say("cli.opt_yes"))
@click.option("--purge", is_flag=True, help=say("cli.opt_purge"))
def remove_chats(names: tuple[str, ...], yes: bool, purge: bool) -> int:
    """Every name is looked up before anything is deleted."""

    async def find_all(rt: "Runtime") -> list[Conversation | Message]:
        return [await rt.chats.named(name) for name in names]

    found = ask_core(find_all)
    if purge and any(isinstance(one, Message) for one in found):
        raise UsageError("cli.purge_chats_only")
    for one in found:
        about = words_of(one) if isinstance(one, Message) else one.title or "-"
        note(f"{one.id}  {about}")
    if not (yes or _agreed("cli.purge_ask" if purge else "cli.rm_ask")):
        note(say("cli.nothing_done"))
        return ExitCode.FAILED

    async def delete_all(rt: "Runtime") -> None:
        for one in found:
            if isinstance(one, Message):
                await rt.chats.delete_message(one.id)
            else:
                await (rt.chats.purge if purge else rt.chats.delete)(one.id)

    ask_core(delete_all)
    if not purge:
        note(say("cli.rm_undone_by", id=found[0].id))
    return ExitCode.OK


def _agreed(question: str) -> bool:
    if not can_ask():
        raise UsageError("cli.rm_needs_yes")
    return (ask(say(question)) or "n").lower() in ("y", "yes")


async def _read(rt: "Runtime", name: str) -> tuple[Conversation, list[Message]]:
    conversation = await rt.chats.find(name)
    return conversation, list(await rt.chats.branch(conversation.id))


async def _markdown(rt: "Runtime", name: str) -> str:
    conversation = await rt.chats.find(name)
    return "".join([piece async for piece in rt.chats.export([conversation.id])])
