"""Asking a session, shortly."""

import asyncio
from collections.abc import AsyncIterator, Callable

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


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true; TimeoutError if it does not in a minute."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - conditions of other processes have no event
            await asyncio.sleep(0.005)


async def first_delta(stream: AsyncIterator[GenerateEvent]) -> Delta:
    """Read a stream up to its first text."""
    async for event in stream:
        if isinstance(event, Delta):
            return event
    raise AssertionError("it ended without text")


async def drained(stream: AsyncIterator[GenerateEvent]) -> None:
    """Read a stream to its end, or to what it raises."""
    async for _ in stream:
        pass
