"""`llmchat chats replay`: a reply once more, and where its words differ."""

import click

from llmchat.cli.output import answer, answer_json, note
from llmchat.cli.parameters import ChatId
from llmchat.cli.parts import ask_core
from llmchat.errors import ExitCode
from llmchat.text import say


@click.command("replay", help=say("cli.about_chats_replay"))
@click.argument("chat", type=ChatId(), metavar="CHAT|MESSAGE")
@click.option("--save", is_flag=True, help=say("cli.opt_replay_save"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def replay_chat(chat: str, save: bool, as_json: bool) -> int:
    """What differs in the machinery to stderr, the words with their difference to stdout."""
    from llmchat.core.replaying import (
        word_diff,
    )  # the engine and its wire, which a list never needs

    found = ask_core(lambda rt: rt.replays.run(chat, save=save))
    for change in found.changes:
        note(say("cli.replay_change", what=change.what, before=change.before, now=change.now))
    if as_json:
        difference = word_diff(found.before, found.now)
        fields = {name: getattr(found, name) for name in found.__struct_fields__}
        answer_json({"same": found.same, "difference": difference, **fields})
    elif found.same:
        note(say("cli.replay_same"))
    else:
        if found.before_thinking != found.now_thinking:
            note(say("cli.replay_thought"))
        answer(word_diff(found.before, found.now))
    return ExitCode.OK if found.same else ExitCode.FAILED
