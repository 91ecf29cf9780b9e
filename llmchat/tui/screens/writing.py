"""What is being written: the draft of each conversation, and an edit of a message that was sent.

Owns keeping drafts, and what lies in the composer while a message is edited. Refuses to send.
"""

import asyncio

from textual import on, work
from textual.widgets import TextArea

from llmchat.text import say
from llmchat.tui.screens.attaching_actions import AttachingActions, draft_files
from llmchat.tui.screens.model_actions import ModelActions
from llmchat.tui.told import told
from llmchat.values import Message, Part

DRAFT_PAUSE = 1.0
"""Seconds without a key after which a draft is written to the disk."""


class Writing(ModelActions, AttachingActions):
    """The composer's words, and whose they are."""

    def begin_edit(self, message: Message) -> None:
        """The composer holds a message that was sent; what was in it is set aside.

        Changes that were left before they were sent are there again.
        """
        self.keep_draft()
        if self.editing is None:
            self.set_aside = self.composer.text, self.attached
        self.editing = message.id
        self.edited_text = message.text
        self.composer.replace_text(self.drafts.get(message.id) or message.text)
        self.put_attached(message.files)
        self.composer.add_class("-editing")
        self.composer.border_title = say("tui.editing")
        self.composer.focus()

    def leave_edit(self) -> None:
        """Not now: what was changed is kept for the next edit of this message."""
        if self.editing is not None:
            self.keep_draft()
            if self.drafts.get(self.editing):
                self.tell(say("tui.edit_kept"))
            self.end_edit()

    def end_edit(self) -> None:
        """The composer is the composer again, with the words that were in it."""
        self.editing = None
        self.composer.remove_class("-editing")
        self.composer.border_title = None
        text, files = self.set_aside
        self.composer.replace_text(text)
        self.put_attached(files)

    def put_attached(self, parts: tuple[Part, ...]) -> None:
        """Attach exactly these from now on, and keep them with the draft."""
        super().put_attached(parts)
        self._save_soon()

    @on(TextArea.Changed, "#composer")
    def _typed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._save_soon()

    @work(group="draft", exclusive=True)
    @told
    async def _save_soon(self) -> None:
        await asyncio.sleep(DRAFT_PAUSE)
        self.keep_draft()
        await asyncio.to_thread(self.drafts.save)
        await self.refresh_gauge()

    def keep_draft(self) -> None:
        """What was not sent yet is the draft of the open conversation, or of the edited message."""
        if self.editing is not None:
            text = self.composer.text
            self.drafts.put(self.editing, "" if text == self.edited_text else text)
            return
        words = [*(going.text for going in self.waiting), self.composer.text]
        identity = self.conversation.id if self.conversation else None
        sent = [part for going in self.waiting for part in going.files]
        unread = self.to_restore if self.opened else self.drafts.files(identity)
        files = [*unread, *draft_files([*sent, *self.attached])]
        self.drafts.put(identity, "\n\n".join(word for word in words if word), files)

    def save_drafts(self) -> None:
        """Now, because the program ends."""
        self.keep_draft()
        self.drafts.save()
