"""Models to choose from: those on the disk, those loaded, and what can be pulled."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.fuzzy import Matcher
from textual.widgets.option_list import Option

from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.widgets.activity import size_label
from llmchat.tui.widgets.plain_list import PlainList


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A line of the list."""

    name: str
    """What is given back: a model's name, or a reference to pull."""
    size: int = 0
    """Bytes; 0 = unknown."""
    loaded: str = ""
    """Where it runs, when it is loaded: `100% CPU`."""
    current: bool = False
    """The model of this conversation."""
    pull: bool = False
    """Not here yet: choosing pulls it."""
    fit: str = ""
    """Whether it fits this machine now, in a few words; "" = not known."""
    search: bool = False
    """`name` is words to search the hub for."""


class ModelList(PlainList):
    """Entries, filtered and ordered by how well they match what is typed."""

    SCOPE = "models"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._entries: Sequence[ModelEntry] = ()
        self._query = ""

    def show(self, entries: Sequence[ModelEntry]) -> None:
        """These entries, filtered as before."""
        self._entries = entries
        self._fill()

    def filter(self, query: str) -> None:
        """Only what matches, best first."""
        self._query = query.strip()
        self._fill()

    def _fill(self) -> None:
        kept = self.highlighted_option.id if self.highlighted_option else None
        rows = [(1.0, entry) for entry in self._entries]
        if self._query:
            matcher = Matcher(self._query)
            scored = [(matcher.match(entry.name), entry) for entry in self._entries]
            rows = sorted((row for row in scored if row[0] > 0), key=lambda row: -row[0])
        self.clear_options()
        for _, entry in rows:
            self.add_option(Option(self._row(entry), id=entry.name))
        names = [entry.name for _, entry in rows]
        if names:
            self.highlighted = names.index(kept) if kept in names and not self._query else 0

    def _row(self, entry: ModelEntry) -> Content:
        sign = "↓" if entry.pull else "●" if entry.loaded else "▸" if entry.current else " "
        notes = []
        if entry.pull:
            notes.append(say("tui.model_pull"))
        if entry.current:
            notes.append(say("tui.model_current"))
        if entry.loaded:
            notes.append(say("tui.model_loaded", processor=clean_line(entry.loaded, 30)))
        if entry.size:
            notes.append(size_label(entry.size))
        if entry.fit and not entry.loaded:
            notes.append(entry.fit)
        name = clean_line(entry.name, 70)
        return Content.assemble(
            (f"{sign} ", "$primary"), name, ("   " + " · ".join(notes), "$quiet")
        )

    def entry(self, name: str | None) -> ModelEntry | None:
        """The entry of that name."""
        return next((entry for entry in self._entries if entry.name == name), None)

    @property
    def chosen(self) -> ModelEntry | None:
        """The entry under the cursor."""
        return self.entry(self.highlighted_option.id) if self.highlighted_option else None
