"""A reply while it grows: its parts so far, and what of them is not on the disk yet."""

from collections.abc import Sequence

from llmchat.store.replies import Ending
from llmchat.store.rows import merged
from llmchat.values import (
    FinishReason,
    Generation,
    Message,
    MessageStatus,
    Part,
    PartKind,
    ToolCall,
)


class GrowingReply:
    """Collects one reply. Adding costs the same however long it has become."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.generation: Generation | None = None
        self.tokens: tuple[int, ...] = ()
        self.vocab = ""
        self.finish: FinishReason | None = None
        self.has_grown = False
        """Whether the model has written something."""
        self._parts: list[Part] = list(message.parts)
        self._unsaved: list[tuple[PartKind, str]] = []

    def add(self, kind: PartKind, text: str) -> None:
        """More text of a kind."""
        self.has_grown = True
        self._parts.append(Part(kind=kind, text=text))
        self._unsaved.append((kind, text))

    def add_call(self, call: ToolCall) -> None:
        """A tool call, whole."""
        self.has_grown = True
        meta = {"id": call.id, "name": call.name}
        self._parts.append(Part(kind="tool_call", text=call.arguments, meta=meta))

    def take_unsaved(self) -> list[tuple[str, PartKind, str]]:
        """What no checkpoint has yet, as rows for `Replies.checkpoint`; neighbours joined."""
        parts = merged([Part(kind=kind, text=text) for kind, text in self._unsaved])
        self._unsaved.clear()
        return [(self.message.id, part.kind, part.text) for part in parts]

    def put_back(self, pieces: Sequence[tuple[str, PartKind, str]]) -> None:
        """A checkpoint failed: its pieces are for the next one."""
        mine = [(kind, text) for message, kind, text in pieces if message == self.message.id]
        self._unsaved[:0] = mine

    def ending(
        self, status: MessageStatus, error: str | None, *, is_nothing: bool = False
    ) -> Ending:
        """How it is saved; `is_nothing`: not at all."""
        self._parts = list(merged(self._parts))
        return Ending(
            message=self.message.id,
            parts=tuple(self._parts),
            status=status,
            generation=self.generation,
            error=error,
            tokens=self.tokens,
            vocab=self.vocab,
            is_nothing=is_nothing,
        )
