"""What changes how things look and nothing else: sidebar, thinking, themes, help, links."""

from typing import TYPE_CHECKING

from textual import on, work

from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.links import openable
from llmchat.tui.screens.chat_base import ChatBase
from llmchat.tui.themed import ThemedApp
from llmchat.tui.themes import DARK, LIGHT
from llmchat.tui.told import told
from llmchat.tui.widgets.composer import Composer

if TYPE_CHECKING:
    from textual.widgets import Markdown


class ViewActions(ChatBase):
    """The sidebar's fold, thinking, the theme, help, the palette, and links."""

    _unfolded = False
    _themes_read = False

    def action_sidebar(self) -> None:
        """Fold or show the conversations; where there is little room they lie over the words."""
        narrow = self.has_class("-narrow")
        self.toggle_class("-summoned" if narrow else "-folded")
        shown = self.has_class("-summoned") if narrow else not self.has_class("-folded")
        if shown:
            self.sidebar.focus()
        else:
            self.composer.focus()

    def action_thinking(self) -> None:
        """Open or fold every reply's thinking."""
        self._unfolded = not self._unfolded
        self.transcript.unfold(self._unfolded)

    @on(Composer.Paged)
    def _page(self, event: Composer.Paged) -> None:
        event.stop()
        if event.by < 0:
            self.transcript.scroll_page_up(animate=False)
        else:
            self.transcript.scroll_page_down(animate=False)

    def action_help(self) -> None:
        """Every key."""
        from llmchat.tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self.keymap))

    def action_palette(self) -> None:
        """Every action by name."""
        self.app.action_command_palette()

    def action_theme(self) -> None:
        """The other of our two themes."""
        name = LIGHT if self.app.current_theme.dark else DARK
        self.use_theme(name)
        self._keep_theme(name)

    @work(group="theme", exclusive=True)
    @told
    async def _keep_theme(self, name: str) -> None:
        rt = await self.runtime()
        rt.settings.set("ui.theme", name)

    def read_themes(self) -> None:
        """Make every theme known to the app; one notice for all the files that are broken."""
        if not isinstance(self.app, ThemedApp) or self._themes_read:
            return
        self._themes_read = True
        found = self.app.load_themes([self.themes_folder])
        if found.failed:
            path, reason = next(iter(found.failed.items()))
            words = say("tui.theme_broken", path=path, reason=reason, count=len(found.failed))
            self.notify(clean_line(words), severity="warning", timeout=10, markup=False)

    def use_theme(self, name: str | None) -> None:
        """Change to a theme by its name, if there is such a theme."""
        if name is None or name == self.app.theme:
            return
        if name not in self.app.available_themes:
            self.read_themes()
        if name in self.app.available_themes:
            self.app.theme = name
        else:
            self.tell(say("tui.theme_unknown", name=clean_line(name, 40)))

    def action_quit_app(self) -> None:
        """Leave; what is typed is kept."""
        self.app.exit(return_code=0)

    def on_markdown_link_clicked(self, event: "Markdown.LinkClicked") -> None:
        """Offer to open a link; named by Textual's rule, so that no Markdown is imported yet."""
        event.stop()
        if openable(event.href):
            self._offer(event.href)
        else:
            self.tell(say("tui.link_refused", url=clean_line(event.href, 120)))

    @work(group="link", exclusive=True)
    async def _offer(self, url: str) -> None:
        from llmchat.tui.screens.dialogs import ConfirmScreen

        if await self.app.push_screen_wait(ConfirmScreen(say("tui.link_open"), url)):
            self.app.open_url(url)
