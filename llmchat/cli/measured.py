"""How fast models wrote here, for whoever shows one."""

from llmchat.cli.parts import ask_core
from llmchat.errors import LlmchatError
from llmchat.store.speeds import Speed
from llmchat.text import say


def speeds() -> dict[str, Speed]:
    """Speeds by model identity; none when the conversations cannot be read."""
    try:
        return ask_core(lambda runtime: runtime.speeds())
    except LlmchatError:
        return {}


def speed_of(identity: str) -> Speed | None:
    """One model's speed, once it is known."""
    return speeds().get(identity)


def measured_words(speed: Speed | None) -> str:
    """`34.2 tok/s, median of 12 replies`; "" before the first."""
    if speed is None:
        return ""
    return say("cli.measured", rate=speed.tokens_per_second, replies=speed.replies)
