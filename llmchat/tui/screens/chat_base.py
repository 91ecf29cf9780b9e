"""What the parts of the chat screen share: its widgets, what is open, and how to say an error.

The screen is put together from parts by subject, each a class that extends those whose methods it
calls: this one; models, settings, attaching and the looks; writing; sending; compacting; opening;
what is done to messages and to conversations; and `chat.py`, the whole.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace
from textual import getters
from textual.screen import Screen

from llmchat.errors import LlmchatError
from llmchat.tui.changes import Changes
from llmchat.tui.drafts import DraftFile, Drafts
from llmchat.tui.follower import sentences
from llmchat.tui.widgets.activity import Activity
from llmchat.tui.widgets.chips import CHANGED
from llmchat.tui.widgets.composer import Composer
from llmchat.tui.widgets.sidebar import Sidebar
from llmchat.tui.widgets.status_line import StatusLine
from llmchat.tui.widgets.transcript import Transcript
from llmchat.tui.widgets.welcome import Welcome
from llmchat.values import ChatSettings, Conversation, Part

if TYPE_CHECKING:
    from textual.worker import Worker

    from llmchat.core.asking import Asking
    from llmchat.core.runtime import Runtime


PATH = "path"
"""Where a file on a message that is being written lies; the message that is sent does not say."""


DIGEST = "digest"
"""What such a file said when it was attached, in a few letters."""

OURS = frozenset({PATH, DIGEST, CHANGED})


def without_path(part: Part) -> Part:
    """A part as it is sent."""
    return replace(part, meta={key: value for key, value in part.meta.items() if key not in OURS})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way: its words, and what is attached."""

    text: str
    files: tuple[Part, ...] = ()

    @property
    def words(self) -> str | tuple[Part, ...]:
        """As core takes it."""
        if not self.files:
            return self.text
        said = (Part(kind="text", text=self.text),) if self.text.strip() else ()
        return (*map(without_path, self.files), *said)


class DraftPlace(Struct, frozen=True):
    """Which draft is meant: a conversation's, or an edit of one of its messages."""

    conversation: str | None
    editing: str | None = None


@dataclass(eq=False, slots=True)
class Reading:
    """A file, or several of one pattern, on the way to a draft; its worker can be cancelled."""

    name: str
    draft: DraftPlace
    worker: "Worker[None]"


class ChatBase(Screen[None]):
    """State and widgets of the chat screen."""

    sidebar = getters.query_one(Sidebar)
    transcript = getters.query_one(Transcript)
    welcome = getters.query_one(Welcome)
    activity = getters.query_one(Activity)
    composer = getters.query_one(Composer)
    status = getters.query_one(StatusLine)

    def __init__(
        self,
        runtime: "asyncio.Future[Runtime]",
        drafts: Drafts,
        *,
        themes_folder: Path,
        conversation: str | None = None,
        model: str | None = None,
        keymap: dict[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(classes="-empty")
        self._runtime = runtime
        self.drafts = drafts
        self.themes_folder = themes_folder
        """The user's own themes."""
        self.keymap = keymap or {}
        self.clock = clock
        self.wanted = conversation
        """The conversation to begin with, by id or title."""
        self.fresh = ChatSettings(model=model)
        """What the next new conversation begins with."""
        self.conversation: Conversation | None = None
        self.turn: Asking | None = None
        self.waiting: list[Outgoing] = []
        """Sent while a turn runs: these go out one by one."""
        self.attached: tuple[Part, ...] = ()
        """Files on the message that is being written."""
        self.attached_elsewhere: dict[str | None, tuple[Part, ...]] = {}
        """Files on the drafts of other conversations, by their ids."""
        self.reading: list[Reading] = []
        """What is being read to be attached, to whichever draft."""
        self.to_restore: tuple[DraftFile, ...] = ()
        """Files of the draft, from before this start, that are not read yet."""
        self.editing: str | None = None
        """The message that the composer's words will replace."""
        self.set_aside: tuple[str, tuple[Part, ...]] = ("", ())
        """The words and files that were in the composer before the edit."""
        self.edited_text = ""
        """Of the message that is edited, before any change."""
        self.changes = Changes()
        """Of what is open: a conversation, a turn, a panel. The transcript has its own."""
        self.opened = False
        """Whether it is known what to begin with: nothing is sent before."""

    async def runtime(self) -> "Runtime":
        """The Runtime, once it is open: the first paint does not wait for it."""
        return await asyncio.shield(self._runtime)

    def complain(self, error: LlmchatError) -> None:
        """Say what went wrong and what to do."""
        self.notify(sentences(error), severity="error", timeout=10, markup=False)

    def tell(self, words: str) -> None:
        """Say something worth knowing."""
        self.notify(words, markup=False)

    @property
    def settings(self) -> ChatSettings:
        """The open conversation's own settings, or those that the next one begins with."""
        return self.conversation.settings if self.conversation else self.fresh

    @property
    def draft(self) -> DraftPlace:
        """The draft that lies in the composer."""
        return DraftPlace(self.conversation.id if self.conversation else None, self.editing)

    def is_open(self, conversation: str) -> bool:
        """Whether this is the conversation that is shown."""
        return self.conversation is not None and self.conversation.id == conversation

    def renew(self, conversation: Conversation) -> None:
        """Keep a conversation as it was read now, if it is still the one that is shown."""
        if self.is_open(conversation.id):
            self.conversation = conversation

    @property
    def answering(self) -> bool:
        """Whether a turn of the open conversation runs."""
        return self.turn is not None and not self.turn.done
