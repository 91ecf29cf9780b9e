"""Files on the message that is being written: attaching, weighing, taking off.

By `@` in the composer, by `/attach PATH`, or by pasting a path. Reading a file is core's.
"""

import asyncio
from hashlib import blake2b
from pathlib import Path

from msgspec.structs import replace
from textual import on, work

from llmchat.errors import LlmchatError
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.screens.chat_base import DIGEST, PATH, ChatBase
from llmchat.tui.told import told
from llmchat.tui.widgets.chips import CHANGED, Chips
from llmchat.tui.widgets.composer import Composer
from llmchat.values import Part


def placed(part: Part, path: str, before: str = "") -> Part:
    """A part that remembers where it was read, and what it said `before`, when it was attached."""
    now = digest_of(part)
    meta = {**part.meta, PATH: path, DIGEST: before or now}
    return replace(part, meta={**meta, CHANGED: "yes"} if before not in ("", now) else meta)


def digest_of(part: Part) -> str:
    """What a file says, in a few letters: shorter than the hash that names a blob."""
    said = part.blob or part.text
    return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


class AttachingActions(ChatBase):
    """Answers the composer and the line of attachments."""

    def put_attached(self, parts: "tuple[Part, ...]") -> None:
        """Attach exactly these from now on."""
        self.attached = parts
        self.composer.has_files = bool(parts)
        self.query_one(Chips).show(parts)
        if parts:
            self._weigh()

    @work(group="attach")
    @told
    async def attach(self, pattern: str) -> None:
        """Attach the files that a path, a folder or a pattern means."""
        rt = await self.runtime()
        found = await asyncio.to_thread(rt.attachments.read, pattern)
        parts = await asyncio.to_thread(lambda: [*map(placed, found.parts, found.paths)])
        self.put_attached((*self.attached, *parts))
        if found.passed_over:
            names = clean_line(", ".join(found.passed_over), 120)
            self.tell(say("tui.passed_over", count=len(found.passed_over), names=names))

    @work(group="restore", exclusive=True)
    @told
    async def restore_files(self) -> None:
        """Read the files of a draft again, as they are now.

        Their lines say which have changed since; a notice says which cannot be had any more.
        """
        rt = await self.runtime()
        wanted = self.to_restore
        parts: list[Part] = []
        gone: list[str] = []
        for file in wanted:
            try:
                part = await asyncio.to_thread(rt.attachments.read_file, Path(file.path), file.name)
                parts.append(await asyncio.to_thread(placed, part, file.path, file.digest))
            except LlmchatError:
                gone.append(file.name)
        if wanted is not self.to_restore:
            return  # another conversation is open by now, and these stay in the draft
        self.to_restore = ()
        if self.editing is None:
            self.put_attached((*parts, *self.attached))
        else:
            self.set_aside = self.set_aside[0], (*parts, *self.set_aside[1])
        if gone:
            names = clean_line(", ".join(gone), 120)
            self.notify(say("tui.draft_files_gone", names=names), severity="warning", markup=False)

    @work(group="weigh", exclusive=True)
    @told
    async def _weigh(self) -> None:
        rt = await self.runtime()
        identity = self.conversation.id if self.conversation else None
        parts = self.attached
        weight = await rt.chats.weigh(identity, parts)
        if parts != self.attached:
            return
        key = "tui.chips_tokens" if weight.is_exact else "tui.chips_about"
        words = say(key, tokens=weight.tokens)
        too_much = weight.room is not None and weight.tokens > weight.room
        if too_much:
            words += " · " + say("tui.chips_too_much", room=weight.room)
        self.query_one(Chips).show(parts, words, too_much=too_much)

    @on(Chips.Removed)
    def _taken_off(self, event: Chips.Removed) -> None:
        event.stop()
        if event.place < len(self.attached):
            rest = [part for place, part in enumerate(self.attached) if place != event.place]
            self.put_attached(tuple(rest))

    @on(Composer.ErasedNothing)
    def _erased(self, event: Composer.ErasedNothing) -> None:
        event.stop()
        self.put_attached(self.attached[:-1])

    @on(Composer.PastedPath)
    def _pasted(self, event: Composer.PastedPath) -> None:
        event.stop()
        self.attach(event.path)

    @on(Composer.Mentioned)
    def _mentioned(self, event: Composer.Mentioned) -> None:
        event.stop()
        self.action_attach(mention=True)

    def action_attach(self, mention: bool = False) -> None:
        """Choose a file below the current folder. `mention`: an `@` was typed for it."""
        from llmchat.tui.screens.file_picker import FilePicker

        def take(path: str | None) -> None:
            if path is None:
                return
            if mention:
                self.composer.action_delete_left()
            self.attach(path)

        self.app.push_screen(FilePicker(Path.cwd()), take)
