"""Which of several messages with the same words are the same turn, kept by a compaction.

A compaction, or new words for a summary, copies the turns that stay below a root of its own (role
`system`) beside the old one. No row says that it is a copy (a file that was exported and imported
could not either); its place does: the same words below two roots, one of them a summary, are one
turn. Versions of a reply have one root: each of them was said. Where one root has a thing twice and
another three times, it was said three times.
"""

from collections import Counter
from hashlib import blake2b

from llmchat.store.database import Database, Row

_ROOTS = "SELECT id, role = 'system' FROM message WHERE conversation = ? AND parent IS NULL"
_ROOT_OF = """WITH RECURSIVE above (id, parent) AS (
    SELECT id, parent FROM message WHERE id = ?
    UNION ALL SELECT message.id, message.parent
        FROM message JOIN above ON message.id = above.parent
) SELECT id FROM above WHERE parent IS NULL"""


class Copies:
    """Told messages newest first, says of each whether it is a turn that was not told yet."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._roots: dict[str, dict[str, bool]] = {}
        """Of each conversation, and whether each is a summary."""
        self._newest: dict[tuple[str, object, bytes], str] = {}
        self._counts: dict[tuple[str, object, bytes], Counter[str]] = {}
        """How often each root has the same words, once they came a second time."""

    def is_new(self, row: Row) -> bool:
        """The row of a message: conversation, id, title, text, role."""
        conversation, message, text, role = str(row[0]), str(row[1]), row[3], row[4]
        roots = self._roots_of(conversation)
        if len(roots) < 2 or not any(roots.values()):
            return True
        digest = blake2b(text if isinstance(text, bytes) else b"", digest_size=16).digest()
        key = conversation, role, digest
        newest = self._newest.setdefault(key, message)
        if newest == message:
            return True
        if key not in self._counts:
            self._counts[key] = Counter([self._root_of(newest)])
        counts = self._counts[key]
        root = self._root_of(message)
        counts[root] += 1
        others = (
            count
            for other, count in counts.items()
            if other != root and (roots.get(root) or roots.get(other))
        )
        return counts[root] > max(others, default=0)

    def _roots_of(self, conversation: str) -> dict[str, bool]:
        found = self._roots.get(conversation)
        if found is None:
            rows = self._db.read(_ROOTS, (conversation,))
            found = self._roots[conversation] = {str(id_): bool(summary) for id_, summary in rows}
        return found

    def _root_of(self, message: str) -> str:
        return str(self._db.read(_ROOT_OF, (message,))[0][0])
