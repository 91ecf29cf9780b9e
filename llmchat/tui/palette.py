"""Ctrl+P: the table of actions, and the themes, as commands."""

from collections.abc import Iterator
from functools import partial

from textual.command import CommandList, CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.types import IgnoreReturnCallbackType

from llmchat.text import say
from llmchat.tui.actions import ACTIONS
from llmchat.tui.screens.view_actions import ViewActions
from llmchat.tui.themed import ThemedApp


class Palette(CommandPalette):
    """Textual's, which ends the app on a page down before its list has a place on the screen."""

    def _action_command_list(self, action: str) -> None:
        if self.query_one(CommandList).scrollable_content_region:
            super()._action_command_list(action)


class ActionProvider(Provider):
    """Everything that makes sense from anywhere."""

    def _commands(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        for action in ACTIONS:
            if action.palette:
                run = partial(self.screen.run_action, action.name)
                yield action.label[:1].upper() + action.label[1:], action.help, run

    async def discover(self) -> Hits:
        """All of them, before anything is typed."""
        for label, sentence, run in self._commands():
            yield DiscoveryHit(label, run, help=sentence)

    async def search(self, query: str) -> Hits:
        """Those that match."""
        matcher = self.matcher(query)
        for label, sentence, run in self._commands():
            if (score := matcher.match(label)) > 0:
                yield Hit(score, matcher.highlight(label), run, help=sentence)


class ThemeProvider(Provider):
    """The themes by name."""

    async def startup(self) -> None:
        """Read the theme files now that somebody may choose."""
        if isinstance(self.screen, ViewActions):
            self.screen.read_themes()

    def _names(self) -> list[str]:
        return self.app.theme_names() if isinstance(self.app, ThemedApp) else []

    def _use(self, name: str) -> None:
        self.app.theme = name

    async def search(self, query: str) -> Hits:
        """Themes that match; not offered before something is typed, they are many."""
        matcher = self.matcher(query)
        for name in self._names():
            label = say("tui.theme_named", name=name)
            if (score := matcher.match(label)) > 0:
                yield Hit(score, matcher.highlight(label), partial(self._use, name))
