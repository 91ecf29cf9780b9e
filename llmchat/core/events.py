"""Facts that a running turn publishes, in the past tense. Faces follow them.

Every event carries its turn's id and, where it speaks of a reply, the reply's message id: a turn
may have n replies.
"""

from msgspec import Struct

from llmchat.errors import LlmchatError
from llmchat.values import Message, ToolCall


class ChatEvent(Struct, frozen=True, kw_only=True):
    """What they have in common."""

    turn: str
    conversation: str


class TurnStarted(ChatEvent, frozen=True, kw_only=True):
    """The user's words are saved, the replies' rows exist. `question`: None for a regenerate."""

    question: Message | None
    replies: tuple[Message, ...]


class ModelLoading(ChatEvent, frozen=True, kw_only=True):
    """The model is being loaded. `fraction` 0 to 1."""

    model: str
    fraction: float
    stage: str


class Queued(ChatEvent, frozen=True, kw_only=True):
    """Others are ahead in the same worker."""

    position: int


class PromptRead(ChatEvent, frozen=True, kw_only=True):
    """Progress of reading the prompt. Tokens; `seconds_left` by the pace so far."""

    done: int
    total: int
    from_memory: int
    from_disk: int
    seconds_left: float | None


class ContextFull(ChatEvent, frozen=True, kw_only=True):
    """Not everything fits, and the policy is `ask`: the turn waits for `Turn.decide`.

    `tokens` of the whole prompt, and the `budget` that it may have. A face that cannot ask anybody
    decides `stop`. Whoever follows late looks at `Turn.undecided`.
    """

    tokens: int
    budget: int


class ContextDropped(ChatEvent, frozen=True, kw_only=True):
    """What was left out so that the rest fits: never silent, stored and shown."""

    messages: tuple[str, ...]
    tokens: int
    policy: str


class TextAdded(ChatEvent, frozen=True, kw_only=True):
    """More of a reply."""

    message: str
    text: str


class ThinkingAdded(ChatEvent, frozen=True, kw_only=True):
    """More of what the model thinks before it answers."""

    message: str
    text: str


class ToolCalled(ChatEvent, frozen=True, kw_only=True):
    """The model asks for a tool."""

    message: str
    call: ToolCall


class TurnFinished(ChatEvent, frozen=True, kw_only=True):
    """Every reply is complete and saved: ended, cut at a limit, or stopped by the user.

    One that was stopped before its first word is not among them: it is removed.
    """

    replies: tuple[Message, ...]


class TurnFailed(ChatEvent, frozen=True, kw_only=True):
    """The turn ended early; what was written is kept, and marked."""

    error: LlmchatError
    replies: tuple[Message, ...]


AnyChatEvent = (
    TurnStarted
    | ModelLoading
    | Queued
    | PromptRead
    | ContextFull
    | ContextDropped
    | TextAdded
    | ThinkingAdded
    | ToolCalled
    | TurnFinished
    | TurnFailed
)
