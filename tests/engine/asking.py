"""Asking a session, shortly."""

from llmchat.engine.protocol import ChatMessage, Delta, Finished, Generate, Messages
from llmchat.engine.session import GenerateEvent, Session


def chat(words: str, **settings: object) -> Generate:
    """A request with one user message."""
    prompt = Messages(messages=(ChatMessage(role="user", content=words),))
    return Generate(prompt=prompt, **settings)  # type: ignore[arg-type]


async def events(session: Session, request: Generate) -> list[GenerateEvent]:
    """Everything that a request yields."""
    return [event async for event in session.generate(request)]


def text(found: list[GenerateEvent], choice: int = 0) -> str:
    """The visible text of one choice."""
    return "".join(
        event.text
        for event in found
        if isinstance(event, Delta) and event.choice == choice and event.kind == "text"
    )


def finished(found: list[GenerateEvent]) -> list[Finished]:
    """How each choice ended, in order of its number."""
    ends = [event for event in found if isinstance(event, Finished)]
    return sorted(ends, key=lambda event: event.choice)
