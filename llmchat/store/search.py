"""Finding anything ever said: full text over messages and titles, all branches.

Owns the query's syntax: every word must occur, the last one may be the beginning of a word; quotes
keep words together. Nothing a user types is a syntax error.
"""

import re

from msgspec import Struct

from llmchat.store.database import Database
from llmchat.values import Role

MATCH_START, MATCH_END = "\x01", "\x02"
"""Around each match in a snippet: characters that cleaned text never holds."""

SNIPPET_TOKENS = 24

_WORD = re.compile(r'"([^"]*)"|(\S+)')


class Hit(Struct, frozen=True, kw_only=True):
    """A place where the words occur. `message` None: in the title."""

    conversation: str
    message: str | None
    title: str
    snippet: str
    """Raw text; matches lie between U+0001 and U+0002."""
    role: Role | None
    created: float


def match_expression(words: str) -> str:
    """FTS5's expression for what a user typed; empty if there is nothing to look for."""
    terms = [quoted or bare for quoted, bare in _WORD.findall(words)]
    terms = [term for term in terms if any(character.isalnum() for character in term)]
    if not terms:
        return ""
    escaped = ['"' + term.replace('"', '""').replace("\0", " ") + '"' for term in terms]
    is_open = not words.rstrip(" ").endswith('"') and not words.endswith(" ")
    return " ".join(escaped) + ("*" if is_open else "")


def search(db: Database, words: str, *, limit: int = 50) -> list[Hit]:
    """Titles first, then messages, the newest first in each."""
    expression = match_expression(words)
    if not expression:
        return []
    titles = db.read(
        """SELECT conversation.id, NULL, title_fts.title,
                snippet(title_fts, 0, ?, ?, '…', ?), NULL, created
            FROM title_fts JOIN conversation ON number = title_fts.rowid
            WHERE title_fts MATCH ? AND deleted IS NULL ORDER BY touched DESC LIMIT ?""",
        (MATCH_START, MATCH_END, SNIPPET_TOKENS, expression, limit),
    )
    messages = db.read(
        """SELECT conversation.id, message.id, title,
                snippet(message_fts, 0, ?, ?, '…', ?), role, message.created
            FROM message_fts
            JOIN message ON message.seq = message_fts.rowid
            JOIN conversation ON conversation.id = message.conversation
            WHERE message_fts MATCH ? AND message.deleted IS NULL AND conversation.deleted IS NULL
            ORDER BY message_fts.rowid DESC LIMIT ?""",
        (MATCH_START, MATCH_END, SNIPPET_TOKENS, expression, max(0, limit - len(titles))),
    )
    return [_hit(*row) for row in [*titles, *messages]]


def _hit(
    conversation: object, message: object, title: object, snippet: object, role: object, at: object
) -> Hit:
    import msgspec

    values = {
        "conversation": conversation,
        "message": message,
        "title": title,
        "snippet": snippet,
        "role": role,
        "created": at,
    }
    return msgspec.convert(values, Hit)
