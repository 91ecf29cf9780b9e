"""Errors that a person should hear of become notices, in one place."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from textual.app import App
from textual.css.query import NoMatches

from llmchat.errors import LlmchatError

P = ParamSpec("P")


class Complains(Protocol):
    """Something that can tell the user of an error."""

    @property
    def app(self) -> App[Any]:
        """The app it is part of."""

    def complain(self, error: LlmchatError) -> None:
        """Say what went wrong and what to do."""


S = TypeVar("S", bound=Complains)


def told(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, None]]:
    """The method, with every LlmchatError told to the user instead of ending the app."""

    @wraps(method)
    async def telling(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await method(self, *args, **kwargs)
        except LlmchatError as error:
            self.complain(error)
        except NoMatches:
            # When the app ends, a screen's widgets leave before its workers do.
            if self.app.is_running:
                raise

    return telling
