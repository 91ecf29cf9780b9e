"""Which of several messages with the same words are the same turn on different branches.

A compaction, or new words for a summary, copies the turns that stay to a branch beside the old one.
No row says that it is a copy (a file that was exported and imported could not either); its place
does: two messages on one branch are two turns, however alike; on two branches they are one. Where
one branch says a thing twice and another three times, it was said three times.
"""

from hashlib import blake2b

from llmchat.store.database import Database, Row

_ABOVE = """WITH RECURSIVE above (id, parent) AS (
    SELECT id, parent FROM message WHERE id = ?
    UNION ALL SELECT message.id, message.parent
        FROM message JOIN above ON message.id = above.parent
) SELECT id FROM above"""


class _Branch:
    """Messages with the same words, one below the other; the newest is known first."""

    def __init__(self, newest: str) -> None:
        self.newest = newest
        self.count = 1
        self.above: set[str] | None = None


class Copies:
    """Told messages newest first, says of each whether it is a turn that was not told yet."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[tuple[object, ...], list[_Branch]] = {}

    def is_new(self, row: Row) -> bool:
        """The row of a message: conversation, id, title, text, role."""
        conversation, message, _, text, role = row[:5]
        digest = blake2b(text if isinstance(text, bytes) else b"", digest_size=16).digest()
        branches = self._known.setdefault((conversation, role, digest), [])
        most = max((branch.count for branch in branches), default=0)
        branch = next((one for one in branches if self._is_above(str(message), one)), None)
        if branch is None:
            branches.append(_Branch(str(message)))
            return most == 0
        branch.count += 1
        return branch.count > most

    def _is_above(self, message: str, branch: _Branch) -> bool:
        if branch.above is None:
            branch.above = {str(id_) for (id_,) in self._db.read(_ABOVE, (branch.newest,))}
        return message in branch.above
