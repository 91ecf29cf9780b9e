"""A model on its way: progress, speed, time left. Esc stops; what has come stays for next time."""

import threading
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from llmchat.errors import Interrupted, LlmchatError
from llmchat.text import say
from llmchat.text.cleaning import clean, clean_line
from llmchat.tui.widgets.activity import Activity, duration, size_label
from llmchat.values import ModelFile

if TYPE_CHECKING:
    from llmchat.core.downloads import Downloads, Progress


class PullScreen(ModalScreen[ModelFile | None]):
    """Pulls one reference; gives back the model, or None when it was stopped or failed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "stop", show=False)]

    DEFAULT_CSS = """
    PullScreen {
        align: center middle;
        & > Vertical {
            width: 72;
            max-width: 96%;
            height: auto;
            padding: 1 2;
            background: $panel;
            border: round $border;
            & > Activity { padding: 0; margin: 1 0; }
            & > .pull--keys { color: $quiet; }
        }
    }
    """

    def __init__(self, downloads: "Downloads", ref: str) -> None:
        super().__init__()
        self._downloads, self._ref = downloads, ref
        self._stop = threading.Event()
        self._failed = False
        self._is_over = False
        self._pulled: ModelFile | None = None

    def compose(self) -> ComposeResult:
        """What is pulled, how far it is, the keys."""
        with Vertical():
            title = say("tui.pulling", ref=clean_line(self._ref, 60))
            yield Static(Content.styled(title, "bold"), id="pull-title")
            yield Activity()
            yield Static(Content(say("tui.pull_keys")), classes="pull--keys")

    def on_mount(self) -> None:
        """Begin at once."""
        self.query_one(Activity).tell(say("tui.pull_asking"))
        self.run_worker(self._pull, thread=True)

    def _pull(self) -> None:
        tell = self.app.call_from_thread
        try:
            plan = self._downloads.plan(self._ref, stop=self._stop)
            model = self._downloads.pull(plan, partial(tell, self._progress), self._stop)
        except Interrupted:
            tell(self._end, None)
        except LlmchatError as error:
            tell(self._fail, error)
        else:
            tell(self._end, model)

    def _end(self, model: ModelFile | None) -> None:
        self._is_over, self._pulled = True, model
        self._leave()

    def _leave(self) -> None:
        # Textual ignores a screen that leaves from under another one.
        if self._is_over and self.is_active:
            self.dismiss(self._pulled)

    def on_screen_resume(self) -> None:
        """What lay over it is gone: leave, if the pull ended meanwhile."""
        self._leave()

    def _progress(self, progress: "Progress") -> None:
        if not self.is_mounted:
            return
        fraction = progress.done / progress.total if progress.total else None
        parts = [f"{size_label(progress.done)} / {size_label(progress.total)}"]
        if progress.rate:
            parts.append(f"{size_label(progress.rate)}/s")
            parts.append(duration((progress.total - progress.done) / progress.rate))
        self.query_one(Activity).tell("", fraction, " · ".join(parts))
        self.query_one(Activity).tell(say("tui.pull_running"), fraction, " · ".join(parts))

    def _fail(self, error: LlmchatError) -> None:
        self._failed = True
        self.query_one(Activity).tell("")
        self.query_one("#pull-title", Static).update(
            Content(clean(f"{error.sentence} {error.hint or ''}".strip()))
        )
        self.query_one(".pull--keys", Static).update(Content(say("tui.close_keys")))

    def action_stop(self) -> None:
        """Stop; or close, when it has failed."""
        self._stop.set()
        if self._failed:
            self.dismiss(None)
