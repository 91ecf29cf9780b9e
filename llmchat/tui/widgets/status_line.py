"""One line that always tells: model, processor, context, speed, state.

Parts that do not fit are left out whole, the less important ones first.
"""

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from llmchat.text import say

GAUGE = 8
"""Cells of the context gauge."""
WARN, FULL = 0.75, 0.92
"""Shares of the context from which the gauge changes its colour."""


def gauge(used: int, limit: int) -> Content:
    """A bar with the numbers beside it: `▰▰▰▱▱▱▱▱ 3,412 / 8,192`."""
    share = min(1.0, used / limit) if limit else 0.0
    token = "$meter-full" if share >= FULL else "$meter-warn" if share >= WARN else "$meter-ok"
    filled = min(GAUGE, max(1 if used else 0, round(share * GAUGE)))
    return Content.assemble(
        ("▰" * filled, token),
        ("▱" * (GAUGE - filled), "$rule"),
        (f" {used:,} / {limit:,}", ""),
    )


class StatusLine(Widget):
    """Model · processor · context · speed · state."""

    DEFAULT_CSS = """
    StatusLine {
        height: 1;
        background: $surface;
        color: $quiet;
        padding: 0 1;
    }
    """

    model: reactive[str] = reactive("")
    """Its name, cleaned."""
    processor: reactive[str] = reactive("")
    """Where it runs: `100% GPU`."""
    context: reactive[tuple[int, int] | None] = reactive(None)
    """Tokens used and the limit."""
    rate: reactive[float | None] = reactive(None)
    """Tokens a second, of the last or the running reply."""
    state: reactive[str] = reactive("")
    """What it does, in a word or two."""
    busy: reactive[bool] = reactive(False)
    """Whether the state is something that passes."""
    unsaved: reactive[bool] = reactive(False)
    """Whether something is only in memory, because the disk takes nothing."""

    def render(self) -> Content:
        """The left parts that fit, and the state on the right."""
        width = self.content_size.width or self.size.width
        state = Content.styled(self.state, "$text-accent" if self.busy else "$quiet")
        room = width - state.cell_length - 2
        left = Content("")
        for part in self._parts():
            longer = Content(" · ").join([left, part]) if left else part
            if longer.cell_length > room:
                left = left or part.truncate(max(1, room), ellipsis=True)
                break
            left = longer
        return left.pad_right(max(2, width - left.cell_length - state.cell_length)) + state

    def _parts(self) -> list[Content]:
        parts = [Content.styled(self.model or say("tui.no_model"), "$foreground")]
        if self.unsaved:
            parts.insert(0, Content.styled(say("tui.unsaved"), "$meter-full"))
        if self.context is not None:
            parts.append(gauge(*self.context))
        if self.processor:
            parts.append(Content(self.processor))
        if self.rate is not None:
            parts.append(Content(say("tui.foot_rate", rate=self.rate)))
        return parts
