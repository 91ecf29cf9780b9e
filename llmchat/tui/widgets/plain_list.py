"""A list without a frame of its own: a line a row, cut at the end, for boxes and the welcome."""

from textual.widgets import OptionList


class PlainList(OptionList):
    """Owns the look only; rows are `Content`, or text in which no markup is read."""

    DEFAULT_CSS = """
    PlainList {
        height: auto;
        max-height: 14;
        border: none;
        padding: 0;
        background: transparent;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        scrollbar-size-vertical: 1;
        &:focus { border: none; background-tint: transparent; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
