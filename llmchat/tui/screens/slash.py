"""`/name words` in the composer: the actions of the palette by name, and `/attach PATH`.

What begins with a slash and names no action is words like any others.
"""

import re

from textual import work

from llmchat.tui.actions import ACTIONS
from llmchat.tui.screens.attaching_actions import AttachingActions

_COMMAND = re.compile(r"/([a-z_]+)(?:\s+(\S.*))?\s*")

WITH_WORDS = {"attach"}
"""Those that take the words behind them."""


class SlashCommands(AttachingActions):
    """Runs them."""

    def slash(self, text: str) -> bool:
        """Run what `text` names; False if it is words."""
        found = _COMMAND.fullmatch(text)
        if found is None:
            return False
        name, words = found.groups()
        if words is not None and name not in WITH_WORDS:
            return False
        action = next((one for one in ACTIONS if one.palette and one.id == f"chat.{name}"), None)
        if action is None:
            return False
        if words is None:
            self._run_named(action.name)
        else:
            self.attach(words)
        return True

    @work(group="slash")
    async def _run_named(self, name: str) -> None:
        await self.run_action(name)
