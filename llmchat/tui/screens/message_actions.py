"""What can be done to one message: edit, regenerate, continue, fork, versions, copy, delete."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, Final, cast

from textual import work

from llmchat.text import say
from llmchat.tui.screens.chat_base import Outgoing
from llmchat.tui.screens.opening import Opening
from llmchat.tui.told import told
from llmchat.values import Message

if TYPE_CHECKING:
    from llmchat.core.turn import Turn
    from llmchat.tui.widgets.message import MessageView

ALTERNATIVES: Final = 4
"""Versions that are written together when several are asked for."""
STEPS: Final = frozenset({"before", "after"})

Deed = Callable[["MessageActions", Message], Awaitable[None]]


class MessageActions(Opening):
    """Answers `MessageView.Asked`."""

    _deleted: tuple[str, ...] = ()
    """Messages that were deleted here, to be brought back."""

    # These two are named by Textual's rule, so that no Markdown is imported before a message is.

    def on_message_view_stepped(self, event: "MessageView.Stepped") -> None:
        """Go to a neighbour, or from the last message to the composer."""
        event.stop()
        if not self.transcript.step(event.view, event.by) and event.by > 0:
            self.composer.focus()

    def on_message_view_asked(self, event: "MessageView.Asked") -> None:
        """Do what is wanted."""
        event.stop()
        self._do(event.what, event.view.message)

    @work(group="message")
    @told
    async def _do(self, what: str, message: Message) -> None:
        if refusal := self.refusal(what, message):
            self.tell(refusal)
            return
        await self._DEEDS[what](self, message)

    def refusal(self, what: str, message: Message) -> str:
        """Why that cannot be done to a message now; "" when it can."""
        steps = what in STEPS and message.id in self._written_together
        if self.answering and not steps and what not in {"copy", "copy_code"}:
            return say("tui.busy")
        if message.role == "system" and what in {"regenerate", "alternatives", "continue"}:
            return say("tui.summary_fixed")
        if message.role != "assistant" and what == "continue":
            return say("tui.only_replies")
        return ""

    @property
    def _written_together(self) -> list[str]:
        """Ids of the replies that are being written, when there are several."""
        replies = self.turn.replies if self.turn is not None and not self.turn.done else ()
        return [reply.id for reply in replies] if len(replies) > 1 else []

    def refused(self, message: Message) -> frozenset[str]:
        """The ids of the actions that would be refused for a message now."""
        return frozenset(f"message.{what}" for what in self._DEEDS if self.refusal(what, message))

    async def _edit(self, message: Message) -> None:
        self.begin_edit(message)

    @work(group="message")
    @told
    async def send_edit(self, text: str) -> None:
        """A new version of the message; the model answers it if it was the user's."""
        rt = await self.runtime()
        message_id = self.editing
        if message_id is None:
            return
        going = Outgoing(text, self.attached)
        if self.answering:
            self.composer.replace_text(text)
            self.tell(say("tui.busy"))
            return
        self.drafts.put(message_id, text)  # until the new version is saved
        self.end_edit()
        view = self.transcript.view(message_id)
        rerun = view is None or view.message.role == "user"
        done = await rt.chats.edit(message_id, going.words, rerun=rerun)
        self.drafts.put(message_id, "")
        if isinstance(done, Message):
            await self.show_branch(await rt.chats.select(done.id), done.conversation)
        else:
            self.watch_turn(done)

    async def _regenerate(self, message: Message) -> None:
        rt = await self.runtime()
        self.watch_turn(await rt.chats.regenerate(message.id))

    async def _alternatives(self, message: Message) -> None:
        rt = await self.runtime()
        self.watch_turn(await rt.chats.regenerate(message.id, ALTERNATIVES))

    async def _continue(self, message: Message) -> None:
        rt = await self.runtime()
        self.watch_turn(await rt.chats.continue_(message.id))

    async def _fork(self, message: Message) -> None:
        rt = await self.runtime()
        await self.open(await rt.chats.fork(message.id))
        self.composer.focus()
        self.tell(say("tui.forked"))

    async def _sibling(self, message: Message, by: int) -> None:
        if message.id not in message.siblings:
            return
        place = message.siblings.index(message.id) + by
        if not 0 <= place < len(message.siblings):
            return
        rt = await self.runtime()
        chosen = message.siblings[place]
        if written := self._written_together:
            if chosen in written and self.turn is not None:
                await rt.chats.select(chosen)
                self.watch_turn(cast("Turn", self.turn), chosen)
            return
        await self.show_branch(await rt.chats.select(chosen), message.conversation)
        if (view := self.transcript.view(chosen)) is not None:
            view.focus()

    async def _before(self, message: Message) -> None:
        await self._sibling(message, -1)

    async def _after(self, message: Message) -> None:
        await self._sibling(message, 1)

    async def _copy(self, message: Message) -> None:
        self.app.copy_to_clipboard(message.text)
        self.tell(say("tui.copied"))

    async def _copy_code(self, message: Message) -> None:
        from llmchat.tui.widgets.message import code_blocks

        blocks = code_blocks(message.text)
        if blocks:
            self.app.copy_to_clipboard("\n".join(blocks))
        self.tell(say("tui.copied_code", count=len(blocks)) if blocks else say("tui.no_code"))

    async def _delete(self, message: Message) -> None:
        rt = await self.runtime()
        await rt.chats.delete_message(message.id)
        self._deleted += (message.id,)
        await self._redraw(message.conversation)
        self.tell(say("tui.message_deleted"))

    async def _undo(self, message: Message) -> None:
        if not self._deleted:
            self.tell(say("tui.nothing_to_undo"))
            return
        rt = await self.runtime()
        *rest, message_id = self._deleted
        self._deleted = tuple(rest)
        await rt.chats.undelete_message(message_id)
        await self._redraw(message.conversation)

    async def _redraw(self, conversation: str) -> None:
        rt = await self.runtime()
        branch = await rt.chats.branch(conversation)
        await self.show_branch(branch, conversation)
        self.set_class(not branch, "-empty")
        if not self.transcript.focus_last():
            self.composer.focus()

    _DEEDS: ClassVar[dict[str, Deed]] = {
        "edit": _edit,
        "regenerate": _regenerate,
        "alternatives": _alternatives,
        "continue": _continue,
        "fork": _fork,
        "before": _before,
        "after": _after,
        "copy": _copy,
        "copy_code": _copy_code,
        "delete": _delete,
        "undo": _undo,
    }
