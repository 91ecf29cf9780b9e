"""What is in force for a conversation, and how full its context is: for showing, never for sending.

Owns which model a conversation would use right now, and counting by that model's own tokenizer
when it is loaded. Loads nothing.
"""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from llmchat.core import prompting
from llmchat.core.attaching.attachments import about_tokens
from llmchat.core.context import room_for_reply
from llmchat.core.sessions import ModelSource, Sessions
from llmchat.core.settings import Resolved, SettingsService, with_engine_defaults
from llmchat.engine.protocol import ChatMessage, Messages
from llmchat.engine.session import Session
from llmchat.errors import NotFound
from llmchat.values import NOTHING_SET, ChatSettings, Conversation, Message, ModelFile, Part


class ContextUse(Struct, frozen=True, kw_only=True):
    """Tokens that a conversation takes, and may take."""

    used: int
    limit: int


class Weight(Struct, frozen=True, kw_only=True):
    """Tokens that parts take as a message of their own."""

    tokens: int
    is_exact: bool
    """Counted by the model; else a quarter of the bytes."""
    room: int | None = None
    """Tokens that a prompt may have, when the model is loaded."""


class InForce:
    """Settings and counts as they are now."""

    def __init__(self, settings: SettingsService, models: ModelSource, sessions: Sessions) -> None:
        self._settings = settings
        self._models = models
        self._sessions = sessions

    async def resolved(
        self, conversation: Conversation | None, once: ChatSettings = NOTHING_SET
    ) -> Resolved:
        """Every setting and the layer that set it, down to the model's and llama.cpp's."""
        found = self._settings.layers(conversation, once)
        model = await asyncio.to_thread(self._model, found)
        facts = None
        if model is not None:
            found = self._settings.layers(conversation, once, model.name)
            session = self._sessions.live(model.identity)
            facts = session.facts if session is not None else None
        return with_engine_defaults(found, facts)

    def _model(self, found: Resolved) -> ModelFile | None:
        try:
            wanted = found.values.model
            return self._models.resolve(wanted) if wanted else self._models.default()
        except NotFound:
            return None

    async def session(self, conversation: Conversation | None) -> Session | None:
        """The session of the model that would answer, if this program has it open right now."""
        found = self._settings.layers(conversation)
        model = await asyncio.to_thread(self._model, found)
        return None if model is None else self._sessions.live(model.identity)

    async def weigh(self, conversation: Conversation | None, parts: Sequence[Part]) -> Weight:
        """Tokens of a draft alone: counted when the model is loaded, else about."""
        session = await self.session(conversation)
        if session is None:
            return Weight(tokens=about_tokens(parts), is_exact=False)
        message = ChatMessage(role="user", content=prompting.written(parts))
        counted = await session.count(Messages(messages=(message,)))
        n_ctx = session.facts.n_ctx
        max_tokens = self._settings.layers(conversation).values.max_tokens
        room = n_ctx - room_for_reply(n_ctx, max_tokens)
        return Weight(tokens=counted.tokens, is_exact=True, room=room)

    async def count(
        self, conversation: Conversation, branch: Sequence[Message], draft: Sequence[Part]
    ) -> ContextUse | None:
        """Tokens of a branch with a draft below it; None when no model is loaded."""
        session = await self.session(conversation)
        if session is None:
            return None
        values = self._settings.layers(conversation).values
        lines = prompting.lines(branch, values.system, {})
        messages = [line.message for line in lines]
        if draft:
            messages.append(ChatMessage(role="user", content=prompting.written(draft)))
        if not messages:
            return ContextUse(used=0, limit=session.facts.n_ctx)
        kwargs = prompting.template_kwargs(values)
        tools = values.tools or ()
        prompt = Messages(messages=tuple(messages), tools=tools, template_kwargs=kwargs)
        counted = await session.count(prompt)
        return ContextUse(used=counted.tokens, limit=session.facts.n_ctx)
