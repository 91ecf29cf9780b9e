"""What is attached to the message that is being written: a line a file, with its size and tokens.

What is still being read has a line too. Draws only; a click on a line asks for that file to be
taken off again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.widgets.activity import size_label
from llmchat.values import Part

SHOWN = 4
"""Lines; more are counted."""

CHANGED = "changed"
"""Meta of a file that says something else than when it was attached."""


def chip(part: Part) -> str:
    """A file in a few words, cleaned."""
    name = clean_line(part.meta.get("name", ""), 60)
    size = part.meta.get("size", "")
    words = [f"▤ {name}"]
    if size.isdecimal():
        words.append(size_label(int(size)))
    if CHANGED in part.meta:
        words.append(say("tui.chips_changed"))
    return " · ".join(words)


class Chips(Static):
    """The attachments of a draft; takes no room when there are none."""

    DEFAULT_CSS = """
    Chips {
        height: auto;
        padding: 0 3;
        display: none;
        color: $text-accent;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        &.-shown { display: block; }
    }
    """

    @dataclass
    class Removed(Message):
        """The file at this place should be taken off."""

        place: int

    _lines = 0
    """Of files: those that a click takes off."""

    def show(
        self,
        parts: Sequence[Part],
        reading: Sequence[str] = (),
        *,
        weight: str = "",
        too_much: bool = False,
    ) -> None:
        """These files, what they weigh together, and the names of those that are being read."""
        self.set_class(bool(parts or reading), "-shown")
        lines = [Content(chip(part)) for part in parts[:SHOWN]]
        self._lines = len(lines)
        if len(parts) > SHOWN:
            lines.append(Content(say("tui.chips_more", count=len(parts) - SHOWN)))
        if reading:
            names = clean_line(", ".join(reading), 60)
            lines.append(Content(f"▤ {say('tui.chips_reading', names=names)}"))
        if parts or reading:
            style = "$text-error" if too_much else "$quiet"
            lines.append(Content.assemble((f"{weight}  {say('tui.chips_keys')}".strip(), style)))
        self.update(Content("\n").join(lines))

    def on_click(self, event: events.Click) -> None:
        """Take the file of that line off."""
        event.stop()
        if event.y < self._lines:
            self.post_message(self.Removed(event.y))
