"""What the machine is busy with while nothing is written yet: a bar, numbers, and time left."""

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from llmchat.text import say


def duration(seconds: float) -> str:
    """`8 s`, `3 min`, `2 h`: one number and its unit."""
    if seconds < 90:
        return say("tui.seconds", count=max(1, round(seconds)))
    if seconds < 90 * 60:
        return say("tui.minutes", count=round(seconds / 60))
    return say("tui.hours", count=round(seconds / 3600))


def size_label(count: float) -> str:
    """Bytes as people say them: `92 MB`, `4.7 GB` (powers of ten, as disks and hubs count)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            digits = 1 if unit == "GB" or (count < 9.95 and unit != "B") else 0
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


class Activity(Widget):
    """One line with a bar; takes no room when there is nothing to tell."""

    DEFAULT_CSS = """
    Activity {
        height: 1;
        padding: 0 3;
        color: $quiet;
        display: none;
        &.-shown { display: block; }
    }
    """

    words: reactive[str] = reactive("")
    """What is done, in words; empty = nothing."""
    fraction: reactive[float | None] = reactive(None)
    """0 to 1, or None when nobody knows."""
    tail: reactive[str] = reactive("")
    """Numbers behind the bar."""

    def watch_words(self) -> None:
        """Show or hide."""
        self.set_class(bool(self.words), "-shown")

    def tell(self, words: str, fraction: float | None = None, tail: str = "") -> None:
        """What is going on now; no words end it."""
        self.words, self.fraction, self.tail = words, fraction, tail

    def render(self) -> Content:
        """Words, bar, numbers, as far as they fit."""
        width = self.content_size.width or self.size.width
        line = Content.styled(self.words, "$foreground")
        tail = Content(f"  {self.tail}") if self.tail else Content("")
        if self.fraction is None:
            return line + tail
        bar = min(30, width - line.cell_length - tail.cell_length - 2)
        if bar < 4:
            return line + tail
        filled = round(max(0.0, min(1.0, self.fraction)) * bar)
        return Content.assemble(
            line, "  ", ("━" * filled, "$primary"), ("━" * (bar - filled), "$rule"), tail
        )
