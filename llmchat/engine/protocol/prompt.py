"""What a prompt is made of: messages for the template, raw text, or raw tokens."""

from typing import Any

from msgspec import Struct

from llmchat.values import ToolCall


class ChatMessage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message as the chat template sees it."""

    role: str
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    tokens: tuple[int, ...] = ()
    """Token ids of an unedited reply, used verbatim: retokenizing 2 of 10 differs."""
    vocab: str = ""
    """The vocabulary's hash that `tokens` belong to; others are ignored."""


class Messages(Struct, frozen=True, kw_only=True, tag="messages", omit_defaults=True):
    """A conversation, rendered by the model's own template."""

    messages: tuple[ChatMessage, ...]
    continue_final: bool = False
    """The last message is an assistant's to go on writing, not to answer."""
    tools: tuple[dict[str, Any], ...] = ()
    """OpenAI-shaped tool definitions."""
    template_kwargs: dict[str, Any] = {}
    """e.g. enable_thinking, reasoning_effort."""


class RawText(Struct, frozen=True, kw_only=True, tag="text"):
    """Text as it is, without a template; special tokens are read only if asked."""

    text: str
    parse_special: bool = False


class RawTokens(Struct, frozen=True, kw_only=True, tag="tokens"):
    """Token ids as they are."""

    tokens: tuple[int, ...]


Prompt = Messages | RawText | RawTokens
