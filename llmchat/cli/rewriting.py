"""`llmchat chats regenerate`, `continue` and `edit`: other versions of what was said.

Every version stays; `versions.py` shows them and chooses among them. Refuses to begin
conversations: `run` does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec.structs import replace

from llmchat.cli.answered import say_after, shown_of
from llmchat.cli.answering import Follower
from llmchat.cli.choosing import find_or_fetch
from llmchat.cli.options import alternatives_option, answer_options, settings_of, shown_options
from llmchat.cli.output import answer, answer_json, can_ask, note
from llmchat.cli.parameters import ChatId, ModelName
from llmchat.cli.parts import ask_core, open_runtime
from llmchat.cli.prompt import given_words
from llmchat.errors import ExitCode, UsageError
from llmchat.text import say
from llmchat.values import ChatSettings, Message, Part

if TYPE_CHECKING:
    from llmchat.core.runtime import Runtime
    from llmchat.core.turn import Turn

Command = TypeVar("Command", bound=Callable[..., Any])


def _asking(command: Command) -> Command:
    """Add what every command takes that has a message answered."""
    model = click.option("-m", "--model", type=ModelName(), help=say("cli.opt_once_model"))
    return model(shown_options(answer_options(command)))


@click.command("regenerate", help=say("cli.about_chats_regenerate"))
@click.argument("chat", type=ChatId(), metavar="CHAT|MESSAGE")
@alternatives_option
@_asking
def regenerate_reply(chat: str, **given: Any) -> int:  # noqa: ANN401 - click's flags by name
    """New versions beside a reply, or below a question."""

    async def begin(rt: "Runtime", once: ChatSettings) -> "Turn":
        message = await rt.chats.meant(chat)
        return await rt.chats.regenerate(message.id, given["alternatives"], once=once)

    return _answered(begin, given)


@click.command("continue", help=say("cli.about_chats_continue"))
@click.argument("chat", type=ChatId(), metavar="CHAT|MESSAGE")
@_asking
def continue_reply(chat: str, **given: Any) -> int:  # noqa: ANN401 - click's flags by name
    """A version of a reply that begins with its text; the whole of it to stdout."""

    async def begin(rt: "Runtime", once: ChatSettings) -> "Turn":
        message = await rt.chats.meant(chat)
        return await rt.chats.continue_(message.id, once=once)

    return _answered(begin, given)


@click.command("edit", help=say("cli.about_chats_edit"))
@click.argument("message", metavar="MESSAGE")
@click.option("--set", "words", metavar="TEXT", help=say("cli.opt_edit_set"))
@click.option("--answer/--no-answer", "rerun", default=None, help=say("cli.opt_edit_answer"))
@_asking
def edit_message(message: str, words: str | None, rerun: bool | None, **given: Any) -> int:  # noqa: ANN401
    """Without --set in the user's editor. A question is answered again, unless told otherwise."""
    old = ask_core(lambda rt: rt.chats.find_message(message))
    if words is None and not can_ask():
        raise UsageError("cli.edit_words")
    text = click.edit(old.text) if words is None else given_words(words)
    if text is None or text.rstrip("\n") == old.text.rstrip("\n"):
        note(say("cli.nothing_done"))
        return ExitCode.FAILED
    said = Part(kind="text", text=text.rstrip("\n"))
    parts = list(old.files)
    if said.text.strip():
        parts.append(said)
    elif not parts:
        raise UsageError("core.nothing_to_send")
    if not _is_answered(old, rerun):
        changed = ask_core(lambda rt: _changed(rt, old, parts))
        if given["as_json"]:
            answer_json(changed)
        else:
            answer(changed.id)
        return ExitCode.OK

    async def begin(rt: "Runtime", once: ChatSettings) -> "Turn":
        from llmchat.core.turn import Turn

        turn = await rt.chats.edit(old.id, parts, once=once)
        assert isinstance(turn, Turn)
        return turn

    return _answered(begin, given)


def _is_answered(old: Message, wanted: bool | None) -> bool:
    """Whether the model writes to the new words: as wanted, else to a question; to no summary."""
    if old.role == "system":
        return False
    return old.role == "user" if wanted is None else wanted


async def _changed(rt: "Runtime", old: Message, parts: list[Part]) -> Message:
    changed = await rt.chats.edit(old.id, parts, rerun=False)
    return await rt.chats.message(changed.id)


def _answered(
    begin: "Callable[[Runtime, ChatSettings], Awaitable[Turn]]", given: dict[str, Any]
) -> int:
    """Begin a turn with these flags for once, and follow it to its end; the exit code."""
    once, shown = settings_of(given), shown_of(given)
    if given["model"]:
        once = replace(once, model=find_or_fetch(given["model"]).name)

    async def run() -> int:
        async with open_runtime("chats") as rt:
            turn = await begin(rt, once)
            wanted = len(turn.replies)
            follower = Follower(rt.chats, turn, shown)
            replies = await follower.follow()
        for notice in rt.news():
            note(notice)
        by = follower.stopped_by
        return say_after(replies, shown, wanted=wanted, stopped_by=by, saved=True)

    return asyncio.run(run())
