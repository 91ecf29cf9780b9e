"""The quiet line under a reply: how it came to be, in numbers."""

from llmchat.text import say
from llmchat.values import Generation


def tokens_per_second(generation: Generation) -> float | None:
    """Decodes a second: the first token comes from reading the prompt, so n - 1 over the time."""
    decodes = generation.usage.completion_tokens - 1
    seconds = generation.timings.generation
    return decodes / seconds if decodes > 0 and seconds > 0 else None


def footnote(generation: Generation) -> str:
    """Tokens, tok/s, time to first token, why it stopped, and where the prompt came from."""
    usage, timings = generation.usage, generation.timings
    parts = []
    if usage.completion_tokens:
        parts.append(say("tui.foot_tokens", tokens=usage.completion_tokens))
    if (rate := tokens_per_second(generation)) is not None:
        parts.append(say("tui.foot_rate", rate=rate))
    if timings.first_token:
        parts.append(say("tui.foot_first", seconds=timings.first_token))
    if generation.finish:
        parts.append(say(f"tui.finish_{generation.finish}"))
    for key, tokens in (("cached", usage.from_memory), ("disk", usage.from_disk)):
        if usage.prompt_tokens and tokens:
            percent = round(100 * tokens / usage.prompt_tokens)
            parts.append(say(f"tui.foot_{key}", percent=percent))
    return " · ".join(parts)


def dropped(messages: int, tokens: int) -> str:
    """What a reply's prompt went without."""
    return say("tui.dropped", messages=messages, tokens=tokens)
