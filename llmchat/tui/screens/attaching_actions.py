"""Files on the message that is being written: attaching, weighing, taking off.

Reading a large document takes seconds: its line says so, nothing is sent before it is there, and it
comes to the draft it was meant for, whatever is open by then.

By `@` in the composer, by `/attach PATH`, or by pasting a path. Reading a file is core's.
"""

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from msgspec.structs import replace
from textual import on, work
from textual.worker import get_current_worker

from llmchat.errors import LlmchatError
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.drafts import DraftFile
from llmchat.tui.screens.chat_base import DIGEST, PATH, ChatBase, DraftPlace, Reading
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


def draft_files(parts: Sequence[Part]) -> list[DraftFile]:
    """Attached files as a draft keeps them; those of a message that is edited are its own."""
    return [
        DraftFile(
            path=part.meta[PATH],
            name=part.meta.get("name", ""),
            blob=part.blob,
            digest=part.meta.get(DIGEST, ""),
        )
        for part in parts
        if PATH in part.meta
    ]


class AttachingActions(ChatBase):
    """Answers the composer and the line of attachments."""

    def put_attached(self, parts: "tuple[Part, ...]") -> None:
        """Attach exactly these from now on."""
        self.attached = parts
        self.composer.has_files = bool(parts)
        self.show_files()
        if parts:
            self._weigh()

    def show_files(self, weight: str = "", *, too_much: bool = False) -> None:
        """Draw what is attached, what it weighs, and what is still being read."""
        chips = self.query_one(Chips)
        chips.show(self.attached, self.being_read, weight=weight, too_much=too_much)

    @property
    def being_read(self) -> list[str]:
        """Names of what the draft in the composer still waits for."""
        names = [reading.name for reading in self._own_readings]
        if self.editing is None:
            names += [file.name for file in self.to_restore]
        return names

    @property
    def _own_readings(self) -> list[Reading]:
        return [reading for reading in self.reading if reading.draft == self.draft]

    @work(group="attach")
    @told
    async def attach(self, pattern: str) -> None:
        """Attach the files that a path, a folder or a pattern means, to the draft of now."""
        reading = Reading(Path(pattern).name or pattern, self.draft, get_current_worker())
        self.reading.append(reading)
        self.show_files()
        try:
            rt = await self.runtime()
            found = await asyncio.to_thread(rt.attachments.read, pattern)
            parts = await asyncio.to_thread(lambda: (*map(placed, found.parts, found.paths),))
        finally:
            self.reading.remove(reading)
            self.show_files()
        self._hand_over(reading.draft, parts)
        if found.passed_over:
            names = clean_line(", ".join(found.passed_over), 120)
            self.tell(say("tui.passed_over", count=len(found.passed_over), names=names))

    def _hand_over(self, draft: DraftPlace, parts: tuple[Part, ...]) -> None:
        """Give files to the draft that they were read for."""
        if draft == self.draft:
            self.put_attached((*self.attached, *parts))
        elif draft.editing is not None:
            return  # that edit is over, and what was attached to it gone with it
        elif draft == replace(self.draft, editing=None):
            text, files = self.set_aside
            self.set_aside = text, (*files, *parts)
        else:
            identity = draft.conversation
            kept = (*self.drafts.files(identity), *draft_files(parts))
            self.drafts.put(identity, self.drafts.get(identity), kept)
            if identity in self.attached_elsewhere:
                self.attached_elsewhere[identity] += parts

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
        self.show_files(words, too_much=too_much)

    @on(Chips.Removed)
    def _taken_off(self, event: Chips.Removed) -> None:
        event.stop()
        if event.place < len(self.attached):
            rest = [part for place, part in enumerate(self.attached) if place != event.place]
            self.put_attached(tuple(rest))

    @on(Composer.ErasedNothing)
    def _erased(self, event: Composer.ErasedNothing) -> None:
        event.stop()
        if own := self._own_readings:
            own[-1].worker.cancel()
        else:
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
