"""A radix trie over token sequences: who shares how long a beginning with a prompt.

Owns finding the longest common prefix without comparing every list: a lookup costs the prompt's
length, however many sequences there are. Refuses what a prefix is good for (`kinds.reach`).
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

Holder = TypeVar("Holder", bound=Hashable)


def common_prefix(one: Sequence[int], two: Sequence[int]) -> int:
    """How many leading tokens are the same."""
    limit = min(len(one), len(two))
    if one[:limit] == two[:limit]:
        return limit
    low, high = 0, limit  # slices compare in C: a binary search beats a loop in Python
    while low + 1 < high:
        middle = (low + high) // 2
        if one[low:middle] == two[low:middle]:
            low = middle
        else:
            high = middle
    return low


class _Node(Generic[Holder]):
    """A run of tokens with no fork in it; `holders` are those whose sequence ends here."""

    __slots__ = ("children", "holders", "label", "parent")

    def __init__(self, label: list[int], parent: "_Node[Holder] | None") -> None:
        self.label = label
        self.parent = parent
        self.children: dict[int, _Node[Holder]] = {}
        self.holders: set[Holder] = set()


class Trie(Generic[Holder]):
    """Token sequences and who holds each."""

    def __init__(self) -> None:
        self._root: _Node[Holder] = _Node([], None)
        self._nodes: dict[Holder, _Node[Holder]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, holder: Holder) -> bool:
        return holder in self._nodes

    def place(self, holder: Holder, tokens: Sequence[int]) -> None:
        """`holder` holds `tokens` now, whatever it held before."""
        self.remove(holder)
        if tokens:
            self._insert(holder, self._root, tokens)

    def extend(self, holder: Holder, more: Sequence[int]) -> None:
        """`more` came after what `holder` holds."""
        node = self._nodes.get(holder)
        if node is None:
            self.place(holder, more)
        elif not node.children and len(node.holders) == 1:
            node.label.extend(more)
        else:
            node.holders.discard(holder)
            self._insert(holder, node, more)

    def _insert(self, holder: Holder, node: _Node[Holder], tokens: Sequence[int]) -> None:
        at = 0
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                child = _Node(list(tokens[at:]), node)
                node.children[tokens[at]] = child
                node = child
                break
            shared = common_prefix(child.label, list(tokens[at : at + len(child.label)]))
            if shared < len(child.label):
                self._split(child, shared)
            node = child
            at += shared
        node.holders.add(holder)
        self._nodes[holder] = node

    def _split(self, node: _Node[Holder], at: int) -> None:
        """The first `at` tokens stay in `node`; the rest becomes its only child."""
        rest = _Node(node.label[at:], node)
        rest.children, rest.holders = node.children, node.holders
        for child in rest.children.values():
            child.parent = rest
        for holder in rest.holders:
            self._nodes[holder] = rest
        node.label, node.children, node.holders = node.label[:at], {rest.label[0]: rest}, set()

    def remove(self, holder: Holder) -> None:
        """`holder` holds nothing."""
        node = self._nodes.pop(holder, None)
        if node is None:
            return
        node.holders.discard(holder)
        while node.parent is not None and not node.holders and not node.children:
            parent = node.parent
            del parent.children[node.label[0]]
            node = parent
        self._join(node)

    def _join(self, node: _Node[Holder]) -> None:
        """A node with one child and no holder is part of that child's run."""
        if node.parent is None or node.holders or len(node.children) != 1:
            return
        (child,) = node.children.values()
        node.label += child.label
        node.children, node.holders = child.children, child.holders
        for grandchild in node.children.values():
            grandchild.parent = node
        for holder in node.holders:
            self._nodes[holder] = node

    def matches(self, tokens: Sequence[int]) -> Iterator[tuple[int, Holder]]:
        """(how many leading tokens are the same, who holds them), longest first, never 0."""
        trail = self._walk(tokens)
        below: _Node[Holder] | None = None
        for node, depth in reversed(trail):
            if depth:
                for holder in _under(node, below):
                    yield depth, holder
            below = node

    def _walk(self, tokens: Sequence[int]) -> list[tuple[_Node[Holder], int]]:
        """The nodes on the way down, each with the tokens that are the same up to its end."""
        node, depth = self._root, 0
        trail = [(node, 0)]
        while depth < len(tokens):
            child = node.children.get(tokens[depth])
            if child is None:
                break
            shared = common_prefix(child.label, list(tokens[depth : depth + len(child.label)]))
            depth += shared
            trail.append((child, depth))
            if shared < len(child.label):
                break
            node = child
        return trail


def _under(node: _Node[Holder], skip: _Node[Holder] | None) -> Iterator[Holder]:
    """Everybody at or below `node`, the branch `skip` left out."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        yield from here.holders
        waiting.extend(child for child in here.children.values() if child is not skip)
