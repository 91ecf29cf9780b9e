"""Models as the chat needs them: which one answers, where it runs, how full its context is."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace
from textual import on, work

from llmchat.errors import LlmchatError
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.names import short_model
from llmchat.tui.screens.chat_base import ChatBase
from llmchat.tui.told import told
from llmchat.tui.widgets.composer import Composer
from llmchat.tui.widgets.model_list import ModelEntry
from llmchat.tui.widgets.welcome import Welcome
from llmchat.values import ChatSettings, ModelFile

if TYPE_CHECKING:
    from llmchat.core.fitting import Verdict
    from llmchat.core.runtime import Runtime


class ModelActions(ChatBase):
    """Ctrl+O, the welcome's list, and the model's part of the status line."""

    _verdicts: "Mapping[str, Verdict] | None" = None
    """What fitted when the list of models was opened last, by name."""

    async def model_name(self, rt: "Runtime") -> str:
        """The full name of the model that would answer; "" when there is none."""
        if self.conversation is not None:
            resolved = await rt.chats.resolved(self.conversation.id)
            if resolved.values.model:
                return resolved.values.model
        if self.settings.model:
            return self.settings.model
        default = await asyncio.to_thread(rt.models.default)
        return default.name if default else ""

    async def refresh_model(self) -> None:
        """Look again, and tell the status line and the welcome."""
        rt = await self.runtime()
        name = await self.model_name(rt)
        self.status.model = short_model(name)
        self.transcript.model = name
        self.status.processor = await self._processor(rt, name)
        self.welcome.model = short_model(name)
        self.welcome.offer([] if name else await self.entries())
        await self.refresh_gauge()

    async def _processor(self, rt: "Runtime", name: str) -> str:
        for worker in await rt.models.live():
            if worker.model == name:
                return clean_line(worker.processor, 20)
        return ""

    async def refresh_gauge(self) -> None:
        """Tokens of the open branch with what is typed, when the model is loaded."""
        counted = self.conversation
        if counted is None:
            self.status.context = None
            return
        rt = await self.runtime()
        use = await rt.chats.count(counted.id, self.composer.text)
        if self.is_open(counted.id):
            self.status.context = (use.used, use.limit) if use else None

    async def entries(self) -> list[ModelEntry]:
        """The library, with what is loaded, and the starter when it is not here."""
        rt = await self.runtime()
        models = await asyncio.to_thread(rt.models.list)
        loaded = {worker.model: worker.processor for worker in await rt.models.live()}
        current = await self.model_name(rt)
        verdicts = self._verdicts or {}
        entries = [
            ModelEntry(
                name=model.name,
                size=model.size,
                loaded=loaded.get(model.name, ""),
                current=model.name == current,
                fit=say(f"tui.picker_{verdict}") if (verdict := verdicts.get(model.name)) else "",
            )
            for model in models
        ]
        entries.sort(key=lambda entry: (not entry.loaded, not entry.current, entry.name.lower()))
        if not await asyncio.to_thread(self._starter, rt):
            starter = rt.models.starter()
            entries.append(ModelEntry(name=starter.name, size=starter.size, pull=True))
        return entries

    def _starter(self, rt: "Runtime") -> ModelFile | None:
        try:
            return rt.models.resolve(rt.models.starter().name)
        except LlmchatError:
            return None

    def action_switch_model(self) -> None:
        """Choose the model of this conversation; at once, so that what is typed next is for it."""
        from llmchat.tui.screens.model_switcher import ModelSwitcher

        def use(entry: ModelEntry | None) -> None:
            if entry is not None:
                self._take(entry)

        self._judge()
        self.app.push_screen(ModelSwitcher(self.entries), use)

    @work(group="fit", exclusive=True)
    async def _judge(self) -> None:
        """Find out what fits now; the list shows it when it is known."""
        rt = await self.runtime()
        with suppress(LlmchatError):  # a machine that cannot be asked: the list does without
            models = await asyncio.to_thread(rt.models.list)
            self._verdicts = await asyncio.to_thread(rt.fits.each, models)

    @on(Composer.EnteredNothing)
    def _accepted(self, event: Composer.EnteredNothing) -> None:
        event.stop()
        if self.has_class("-empty") and (entry := self.welcome.offered) is not None:
            self._take(entry)

    @on(Welcome.Chosen)
    def _welcomed(self, event: Welcome.Chosen) -> None:
        event.stop()
        self._take(event.entry)

    @work(group="model", exclusive=True)
    @told
    async def _take(self, entry: ModelEntry) -> None:
        await self._use(entry)

    async def _use(self, entry: ModelEntry) -> None:
        name = await self._discovered(entry.name) if entry.search else entry.name
        if name and (entry.pull or entry.search):
            name = await self._pulled(name)
        if not name:
            return
        await self.configure(replace(self.settings, model=name))
        self.tell(say("tui.model_chosen", model=short_model(name)))
        self.composer.focus()

    async def _discovered(self, words: str) -> str | None:
        """A variant of the hub that the user chose."""
        from llmchat.tui.screens.discover import DiscoverScreen

        return await self.app.push_screen_wait(DiscoverScreen(await self.runtime(), words))

    async def _pulled(self, ref: str) -> str | None:
        """The model's name, when the pull was not stopped."""
        from llmchat.tui.screens.pull import PullScreen

        rt = await self.runtime()
        model = await self.app.push_screen_wait(PullScreen(rt.downloads, ref))
        return model.name if model else None

    async def configure(self, settings: ChatSettings) -> None:
        """Save settings with the open conversation, and look what that changes."""
        await self.keep_settings(settings, self.draft.conversation)
        await self.refresh_model()

    async def keep_settings(self, settings: ChatSettings, conversation: str | None) -> None:
        """Save settings with a conversation; a chat that is none yet keeps them until it is."""
        if conversation is None:
            self.fresh = settings
            return
        rt = await self.runtime()
        self.renew(await rt.chats.configure(conversation, settings))
