"""Lists that grow while a model writes: only the last line and what follows it are drawn anew.

Textual 8.2.8 builds a whole list again for every piece that is appended, so a list of 150 lines
holds up the keys. Owns that one shortcut; everything else about lists is Textual's.
"""

from textual.containers import Horizontal
from textual.widgets._markdown import (
    MarkdownBlock,
    MarkdownBullet,
    MarkdownBulletList,
    MarkdownList,
    MarkdownListItem,
    MarkdownOrderedList,
)


async def grow(shown: MarkdownList, longer: MarkdownBlock) -> bool:
    """Draw the end of `longer` on the list that is `shown`; False when it is another list."""
    rows = [child for child in shown.children if isinstance(child, Horizontal)]
    if type(longer) is not type(shown) or not rows:
        return False
    assert isinstance(longer, MarkdownList)
    items = [block for block in longer._blocks if isinstance(block, MarkdownListItem)]
    if len(items) < len(rows):
        return False
    longer._blocks[:] = items[len(rows) - 1 :]
    fresh = [row for row in longer.compose() if isinstance(row, Horizontal)]
    shown.source_range = longer.source_range
    await rows[-1].remove()
    await shown.mount_all(fresh)
    align([*rows[:-1], *fresh])
    return True


def align(rows: list[Horizontal]) -> None:
    """Make room for longer numbers: 9 lines become 10."""
    bullets = [row.query_children(MarkdownBullet).first() for row in rows]
    width = max(len(bullet.symbol) for bullet in bullets)
    for bullet in bullets:
        if len(bullet.symbol) < width:
            bullet.symbol = bullet.symbol.rjust(width)
            bullet.refresh(layout=True)


class GrowingBullets(MarkdownBulletList):
    """A list with bullets."""

    async def _update_from_block(self, block: MarkdownBlock) -> None:
        if not await grow(self, block):
            await super()._update_from_block(block)


class GrowingNumbers(MarkdownOrderedList):
    """A list with numbers."""

    async def _update_from_block(self, block: MarkdownBlock) -> None:
        if not await grow(self, block):
            await super()._update_from_block(block)
