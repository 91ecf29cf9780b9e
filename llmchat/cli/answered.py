"""What is said of a reply once it is there: as JSON, its figures, and how the process ends.

Owns what follows an answer, of one reply or of several. Refuses to follow a turn.
"""

import signal
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from llmchat.cli.output import answer_json, note
from llmchat.cli.tooling import call_value
from llmchat.errors import ExitCode
from llmchat.text import say
from llmchat.values import FinishReason, Message, Timings, Usage


class Shown(Struct, frozen=True, kw_only=True):
    """How answers are to be shown, as the flags say."""

    raw: bool = False
    """Text exactly as the model wrote it."""
    as_json: bool = False
    thinking: bool = True
    stats: bool = False


def shown_of(given: dict[str, Any]) -> Shown:
    """The flags `--raw`, `--json`, `--hidethinking` and `--stats`."""
    return Shown(
        raw=given["raw"],
        as_json=given["as_json"],
        thinking=not given["hidethinking"],
        stats=given["stats"],
    )


class Answer(Struct, frozen=True, kw_only=True):
    """What `run --json` prints."""

    model: str
    conversation: str
    message: str
    text: str
    thinking: str
    tool_calls: list[dict[str, object]]
    finish: FinishReason | None
    seed: int | None
    usage: Usage
    timings: Timings


def answer_of(reply: Message) -> Answer:
    """A finished reply as a program reads it."""
    made = reply.generation
    return Answer(
        model=made.model if made else "",
        conversation=reply.conversation,
        message=reply.id,
        text=reply.text,
        thinking=reply.thinking,
        tool_calls=[call_value(part) for part in reply.parts if part.kind == "tool_call"],
        finish=made.finish if made else None,
        seed=made.seed if made else None,
        usage=made.usage if made else Usage(),
        timings=made.timings if made else Timings(),
    )


def say_after(
    replies: Sequence[Message], shown: Shown, *, wanted: int, stopped_by: int | None, saved: bool
) -> int:
    """What is left to say when the replies are there, and the exit code.

    Args:
        replies: those of which something was kept.
        shown: how.
        wanted: how many were asked for: several are JSON as a list.
        stopped_by: the signal that stopped them; shells count 128+n.
        saved: whether the conversation is kept.
    """
    if not replies:
        note(say("cli.stopped_early" if saved else "cli.stopped_early_unsaved"))
        return 128 + (stopped_by or signal.SIGINT)
    if shown.as_json:
        answers = [answer_of(reply) for reply in replies]
        answer_json(answers if wanted > 1 else answers[0])
    if shown.stats:
        for reply in replies:
            say_figures(reply)
    if stopped_by:
        return 128 + stopped_by
    if any(one.generation is not None and one.generation.finish == "cancelled" for one in replies):
        note(say("cli.stopped_elsewhere"))  # by `llmchat stop`, or in another window
        return ExitCode.FAILED
    return ExitCode.OK


def say_figures(reply: Message) -> None:
    """Tokens, seconds and speed of a reply on stderr (`--stats`)."""
    made = reply.generation
    if made is None:
        return
    usage, timings = made.usage, made.timings
    note(
        say(
            "cli.stats_prompt",
            tokens=usage.prompt_tokens,
            memory=usage.from_memory,
            disk=usage.from_disk,
            seconds=timings.prompt,
            rate=usage.read / timings.prompt if timings.prompt else 0.0,
        )
    )
    decoded = max(0, usage.completion_tokens - 1)
    note(
        say(
            "cli.stats_answer",
            tokens=usage.completion_tokens,
            seconds=timings.generation,
            rate=decoded / timings.generation if timings.generation else 0.0,
        )
    )
    note(
        say(
            "cli.stats_rest",
            first=timings.first_token,
            seed=made.seed if made.seed is not None else "-",
            finish=made.finish or "-",
        )
    )
