"""An app with our themes and tokens, and nothing else: what every widget of ours needs to draw."""

import os
from collections.abc import Iterable
from pathlib import Path

from textual.theme import Theme

from llmchat.tui.pruning import PruningApp
from llmchat.tui.themes import Themes, bundled_folder, preferred, read_theme, read_themes
from llmchat.tui.themes import token_defaults as defaults_of


class ThemedApp(PruningApp):
    """Registers the preferred theme at once, and the others when somebody wants to choose."""

    def __init__(self, theme: str | None = None) -> None:
        super().__init__()
        wanted = theme or preferred(dict(os.environ))
        self.register_theme(read_theme(bundled_folder() / f"{wanted}.toml"))
        self.theme = wanted

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own tokens, for themes that leave them out."""
        return defaults_of(self.current_theme)

    def load_themes(self, folders: Iterable[Path] = ()) -> Themes:
        """Register ours and those in `folders`; the caller says what is wrong with the others."""
        found = read_themes([bundled_folder(), *folders])
        for theme in found.loaded.values():
            self.register_theme(theme)
        return found

    def theme_names(self) -> list[str]:
        """Ours and the user's before Textual's own, which may lack contrast; no ANSI ones."""
        themes: dict[str, Theme] = self.available_themes
        return sorted(
            (name for name, theme in themes.items() if not theme.ansi),
            key=lambda name: (name.startswith("textual-"), not name.startswith("llmchat"), name),
        )
