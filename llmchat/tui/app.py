"""The terminal application: one app, one Runtime, one way in and one way out.

Paints first and opens the Runtime after, so that the first key is echoed at once. Restores the
terminal on TERM, HUP, QUIT and INT; what kills the process outright is the guardian's in `cli/`.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from rich.console import RenderableType
from textual import work
from textual.screen import Screen

from llmchat.config.reading import read_file
from llmchat.errors import LlmchatError
from llmchat.paths import Places, find_places
from llmchat.text import say
from llmchat.text.cleaning import clean, clean_line
from llmchat.tui.drafts import Drafts
from llmchat.tui.keymap import check
from llmchat.tui.keys import teach_alt_enter
from llmchat.tui.screens.chat import ChatScreen
from llmchat.tui.themed import ThemedApp
from llmchat.values import ChatSettings

if TYPE_CHECKING:
    from textual.command import Provider

    from llmchat.core.runtime import Runtime

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)


def _actions() -> "type[Provider]":
    from llmchat.tui.palette import ActionProvider  # a tenth of the start, for later

    return ActionProvider


def _themes() -> "type[Provider]":
    from llmchat.tui.palette import ThemeProvider

    return ThemeProvider


class LlmchatApp(ThemedApp):
    """The chat, and a Runtime that is made after the first paint and closed at the end."""

    TITLE = "llmchat"
    CSS_PATH = "screens/chat.tcss"  # of the first screen, which Textual does not ask for its own
    COMMANDS: ClassVar["set[type[Provider] | Callable[[], type[Provider]]]"] = {
        _actions,
        _themes,
    }
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self,
        make_runtime: "Callable[[], Runtime]",
        places: Places,
        *,
        conversation: str | None = None,
        model: str | None = None,
        theme: str | None = None,
        keymap: dict[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(theme)
        teach_alt_enter()
        self.places = places
        self.failure: LlmchatError | None = None
        """Why the Runtime could not be opened; said once the terminal is itself again."""
        self.last_news: list[str] = []
        """What the Runtime said while it was closed; said then too."""
        self._make_runtime = make_runtime
        self._conversation, self._model = conversation, model
        self._keymap_of_user, self._wrong_keys = check(keymap or {})
        self._clock = clock
        self._runtime: asyncio.Future[Runtime] | None = None
        self.chat: ChatScreen | None = None

    def get_default_screen(self) -> Screen[None]:
        """The chat, at once: no empty screen before it."""
        self._runtime = asyncio.get_running_loop().create_future()
        self.set_keymap(self._keymap_of_user)
        self.chat = ChatScreen(
            self._runtime,
            Drafts(self.places.state),
            themes_folder=self.places.config / "themes",
            conversation=self._conversation,
            model=self._model,
            keymap=self._keymap_of_user,
            clock=self._clock,
        )
        return self.chat

    def on_mount(self) -> None:
        """Paint, then open the Runtime."""
        self.screen.call_after_refresh(self._open_runtime)
        if self._wrong_keys:
            words = "\n".join(self._wrong_keys)
            self.notify(words, severity="warning", timeout=10, markup=False)

    @work(group="runtime")
    async def _open_runtime(self) -> None:
        assert self._runtime is not None
        gc.enable()  # `cli/open_tui.py` held it back until the first paint
        try:
            # Importing core takes a while; a thread leaves the first keys to the screen.
            runtime = await asyncio.to_thread(self._prepare)
            await runtime.__aenter__()
        except LlmchatError as error:
            self.failure = error
            self.exit(return_code=int(error.exit_code))
        else:
            self._runtime.set_result(runtime)

    def _prepare(self) -> "Runtime":
        import llmchat.tui.widgets.message  # noqa: F401 Markdown, needed as soon as words show

        return self._make_runtime()

    def action_command_palette(self) -> None:
        """Every action by name."""
        from llmchat.tui.palette import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    async def on_unmount(self) -> None:
        """Close the Runtime: turns are stopped, their text is kept."""
        if self._runtime is not None and self._runtime.done():
            runtime = self._runtime.result()
            await runtime.__aexit__(None, None, None)
            self.last_news = runtime.news()

    def exit(
        self, result: None = None, return_code: int = 0, message: RenderableType | None = None
    ) -> None:
        """Leave, with what is typed saved first: there is a composer to ask only until now."""
        if self.chat is not None and self.chat.is_mounted:
            self.chat.save_drafts()
        super().exit(result, return_code, message)

    def copy_to_clipboard(self, text: str) -> None:
        """Nothing reaches the clipboard uncleaned: it is pasted into terminals."""
        super().copy_to_clipboard(clean(text))

    def action_help_quit(self) -> None:
        """Ctrl+C leaves nothing: say what does."""
        self.notify(say("tui.quit_hint"), markup=False)


def run_tui(
    *,
    conversation: str | None = None,
    model: str | None = None,
    flags: ChatSettings = ChatSettings(),  # noqa: B008 frozen
) -> int:
    """Open the chat on this terminal and return what the process should exit with.

    Args:
        conversation: id, id prefix or title to open; None = the last one.
        model: open a new chat on this model.
        flags: settings that stand over every other layer.
    """
    places = find_places()

    def make_runtime() -> "Runtime":
        from llmchat.core.runtime import Runtime

        return Runtime(places=places, face="tui", environ=os.environ, flags=flags)

    keys = read_file(places.config_file).settings.keys
    app = LlmchatApp(make_runtime, places, conversation=conversation, model=model, keymap=keys)
    asyncio.run(_run(app))
    words = list(app.last_news)
    if app.failure is not None:
        words += [app.failure.sentence, *filter(None, [app.failure.hint])]
    for line in words:
        sys.stderr.write(clean_line(line) + "\n")
    return app.return_code or 0


async def _run(app: LlmchatApp) -> None:
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, _leave, app, number)
    try:
        await app.run_async()
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def _leave(app: LlmchatApp, number: signal.Signals) -> None:
    app.exit(return_code=128 + number)
