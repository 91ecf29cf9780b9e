"""F4: the panel with this conversation's settings."""

from typing import TYPE_CHECKING

from msgspec.structs import replace
from textual import work

from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.screens.model_actions import ModelActions
from llmchat.tui.told import told
from llmchat.values import ChatSettings

if TYPE_CHECKING:
    from llmchat.tui.widgets.settings_panel import SettingsPanel


def _panel_class() -> "type[SettingsPanel]":
    # A dozen inputs and their styles: imported when somebody asks for them.
    from llmchat.tui.widgets.settings_panel import SettingsPanel

    return SettingsPanel


class SettingsActions(ModelActions):
    """Opens and closes the panel, and saves what it reports."""

    @work(group="settings")
    @told
    async def action_settings(self) -> None:
        """Open the panel, or close it."""
        if await self.changes.whole(self._open_or_close):
            await self.refresh_model()

    async def _open_or_close(self) -> bool:
        """Whether settings were saved."""
        panel_class = _panel_class()
        open_panels = self.query(panel_class)
        if open_panels:
            edited = open_panels.first(panel_class).edited()
            self.composer.focus()
            await open_panels.remove()
            if edited is not None:
                await self.keep_settings(edited, self.draft.conversation)
            return edited is not None
        await self.query_one("#body").mount(panel_class())
        await self.refresh_settings()
        return False

    @work(group="profile", exclusive=True)
    @told
    async def action_profile(self) -> None:
        """Choose a persona or a preset for the open conversation, or the next one."""
        from llmchat.tui.screens.dialogs import ChoiceScreen

        rt = await self.runtime()
        known = (("persona", rt.settings.personas), ("preset", rt.settings.presets))
        found = [(kind, name, files.get(name)) for kind, files in known for name in files.names()]
        if not found:
            folders = {f"{kind}s": files.folder for kind, files in known}
            self.tell(say("tui.profile_nothing", **folders))
            return
        choices = [(say("tui.profile_none"), "")]
        choices += [
            (say(f"tui.profile_{kind}", name=name), profile.table.about)
            for kind, name, profile in found
        ]
        question = say("tui.profile_question")
        place = await self.app.push_screen_wait(ChoiceScreen(question, choices))
        if place is None:
            return
        chosen: dict[str, str | None] = {"persona": None, "preset": None}
        if place > 0:
            kind, name, _ = found[place - 1]
            chosen = {kind: name}
        await self.configure(replace(self.settings, **chosen))
        self.tell(clean_line(choices[place][0], 60))
        await self.refresh_settings()

    async def refresh_settings(self) -> None:
        """Show the panel, if it is open, what is in force now."""
        panel_class = _panel_class()
        rt = await self.runtime()
        for panel in self.query(panel_class):
            identity = self.draft.conversation
            once = self.fresh if identity is None else ChatSettings()
            resolved = await rt.chats.resolved(identity, once)
            is_same = self.draft.conversation == identity
            if is_same and panel.is_mounted and panel.is_running:  # neither on its way in nor out
                panel.show(identity, self.settings, resolved.values, resolved.sources)

    def on_settings_panel_changed(self, event: "SettingsPanel.Changed") -> None:
        """Save what the panel reports; named by Textual's rule, so that nothing is imported."""
        event.stop()
        self._take_settings(event)

    @work(group="configure")
    @told
    async def _take_settings(self, event: "SettingsPanel.Changed") -> None:
        await self.keep_settings(event.settings, event.conversation)
        await self.refresh_model()
        await self.refresh_settings()
        if event.reload and self.status.processor:
            self.tell(say("tui.needs_reload"))
