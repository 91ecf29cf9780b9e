"""Discover: models of the hub, what a repository offers, what fits; gives back a name to pull.

Owns two lists behind one search line: what a search found, page by page, and the variants of the
repository that was opened. Every question runs in a thread, and a newer one replaces it. Refuses to
pull: whoever opened the screen does.
"""

import asyncio
from typing import TYPE_CHECKING, Literal

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from llmchat.errors import LlmchatError
from llmchat.text import say
from llmchat.text.cleaning import clean, clean_line
from llmchat.tui.screens.typed_ahead import SearchLineScreen
from llmchat.tui.widgets.activity import size_label
from llmchat.tui.widgets.plain_list import PlainList

if TYPE_CHECKING:
    from llmchat.core.discovery import FoundModel, Page
    from llmchat.core.fitting import Fit, Judged
    from llmchat.core.runtime import Runtime

PAGE = 20
_MORE = "more"


class DiscoverScreen(SearchLineScreen[str | None]):
    """Enter searches, opens a repository, takes a variant; Esc goes back a step."""

    ROWS = 16
    DEFAULT_CSS = """
    DiscoverScreen > Vertical {
        width: 96;
        max-width: 98%;
    }
    """

    def __init__(self, rt: "Runtime", words: str) -> None:
        super().__init__()
        self._rt = rt
        self._words = words
        self._shown: Literal["found", "variants"] = "found"
        self._found: list[FoundModel] = []
        self._next = ""
        self._offers: list[Judged] = []

    def compose(self) -> ComposeResult:
        """The line, the list, what is happening, the keys."""
        with Vertical():
            yield Input(self._words, placeholder=say("tui.discover_placeholder"), compact=True)
            yield PlainList()
            yield Static("", classes="-note", markup=False)
            yield Static(Content(say("tui.discover_keys")), classes="-keys")

    def on_mount(self) -> None:
        """Search at once for the words it was opened with."""
        self.query_one(Input).cursor_position = len(self._words)
        if self._words:
            self._search(self._words)

    @property
    def _list(self) -> OptionList:
        return self.query_one(OptionList)

    def _tell(self, words: str) -> None:
        self.query_one(".-note", Static).update(Content(clean(words)))

    def _search(self, words: str) -> None:
        self._words, self._shown, self._found, self._next = words, "found", [], ""
        self._list.clear_options()
        self._ask_page()

    def _ask_page(self) -> None:
        self._tell(say("tui.discover_asking", words=clean_line(self._words, 60)))
        self._fetch_page()

    @work(group="hub", exclusive=True)
    async def _fetch_page(self) -> None:
        discovery = self._rt.discovery
        try:
            page: Page = await asyncio.to_thread(
                lambda: discovery.search(self._words, limit=PAGE, after=self._next)
            )
        except LlmchatError as error:
            self._fail(error)
            return
        first = len(self._found)
        self._found += page.models
        self._next = page.next
        self._tell("" if self._found else say("tui.discover_none"))
        self._show_found(first)

    def _show_found(self, highlight: int) -> None:
        self._list.clear_options()
        self._list.add_options(Option(_found_row(model), id=model.repo) for model in self._unique())
        if self._next:
            self._list.add_option(Option(Content(say("tui.discover_more")), id=_MORE))
        if self._list.option_count:
            self._list.highlighted = min(highlight, self._list.option_count - 1)

    def _unique(self) -> "list[FoundModel]":
        """A repository that moved between two pages is shown once."""
        return list({model.repo: model for model in self._found}.values())

    def _open(self, repo: str) -> None:
        self._tell(say("tui.discover_opening", repo=clean_line(repo, 60)))
        self._fetch_offers(repo)

    @work(group="hub", exclusive=True)
    async def _fetch_offers(self, repo: str) -> None:
        fits = self._rt.fits
        try:
            self._offers = await asyncio.to_thread(lambda: fits.variants(repo))
        except LlmchatError as error:
            self._fail(error)
            return
        self._shown = "variants"
        self._tell(say("tui.discover_variants" if self._offers else "tui.discover_no_variants"))
        self._list.clear_options()
        self._list.add_options(
            Option(_offer_row(row), id=str(number)) for number, row in enumerate(self._offers)
        )
        best = [number for number, row in enumerate(self._offers) if row.best]
        if self._offers:
            self._list.highlighted = best[0] if best else 0

    def _fail(self, error: LlmchatError) -> None:
        self._tell(f"{error.sentence} {error.hint or ''}".strip())

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        words = event.value.strip()
        if words and words != self._words:
            self._search(words)
        elif (option := self._list.highlighted_option) is not None:
            self._take(option.id or "")
        elif words and not self._list.option_count:
            self._search(words)  # again: the network may be back

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._take(event.option.id or "")

    def _take(self, identity: str) -> None:
        if self._shown == "variants":
            self.dismiss(self._offers[int(identity)].offer.name)
        elif identity == _MORE:
            self._ask_page()
        else:
            self._open(identity)

    def action_cancel(self) -> None:
        """From the variants to what was found, from there out."""
        if self._shown == "variants" and self._found:
            opened = self._offers[0].offer.name.partition(":")[0] if self._offers else ""
            self._shown = "found"
            self._tell("")
            repos = [model.repo for model in self._unique()]
            self._show_found(repos.index(opened) if opened in repos else 0)
        else:
            self.dismiss(None)


def _found_row(model: "FoundModel") -> Content:
    notes = [say("tui.discover_downloads", count=f"{model.downloads:,}")]
    if model.license:
        notes.append(clean_line(model.license, 20))
    if model.gated:
        notes.append(say("tui.discover_gated"))
    notes += model.capabilities
    return Content.assemble(clean_line(model.repo, 60), ("   " + " · ".join(notes), "$quiet"))


def _offer_row(row: "Judged") -> Content:
    offer = row.offer
    notes = [size_label(offer.size + offer.projector_size), fit_label(row.fit)]
    if offer.here >= offer.size:
        notes.append(say("tui.discover_here"))
    star = "★ " if row.best else "  "
    words = "   " + " · ".join(note for note in notes if note)
    return Content.assemble((star, "$primary"), clean_line(offer.label, 50), (words, "$quiet"))


def fit_label(fit: "Fit | None") -> str:
    """The verdict in a few words; "" when there is none."""
    if fit is None:
        return ""
    return say(f"tui.fit_{fit.verdict}", layers=f"{fit.n_gpu_layers}/{fit.n_layers}")
