"""Finding anything ever said: full text over messages and titles, all branches.

Owns the query's syntax: every word must occur, the last one may be the beginning of a word; quotes
keep words together. Nothing a user types is a syntax error.
"""

import re

from msgspec import Struct

from llmchat.store.copies import Copies
from llmchat.store.database import Database, Row, SqlValue
from llmchat.store.snippets import Sought, snippet
from llmchat.values import Role

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


class Within(Struct, frozen=True, kw_only=True):
    """Where to look. None = everywhere; times are seconds since 1970, from `since` up to `until`.

    `model`: only replies of a model whose name has this in it, and titles of their conversations.
    """

    model: str | None = None
    since: float | None = None
    until: float | None = None

    def condition(self, time: str, reply: str) -> tuple[str, list[SqlValue]]:
        """SQL for the rows that are within. `time`: a column; `reply`: what ties `made` to it."""
        terms: list[str] = []
        bindings: list[SqlValue] = []
        if self.model:
            terms.append(
                f"EXISTS (SELECT 1 FROM generation made WHERE {reply}"
                " AND instr(lower(made.model), lower(?)))"
            )
            bindings.append(self.model)
        for sign, moment in ((">=", self.since), ("<", self.until)):
            if moment is not None:
                terms.append(f"{time} {sign} ?")
                bindings.append(moment)
        return "".join(f" AND {term}" for term in terms), bindings


EVERYTHING = Within()

_OF_THE_CHAT = (
    "made.message IN (SELECT seq FROM message WHERE message.conversation = conversation.id)"
)


def _terms(words: str) -> list[str]:
    terms = [quoted or bare for quoted, bare in _WORD.findall(words)]
    return [term for term in terms if any(character.isalnum() for character in term)]


def _is_open(words: str) -> bool:
    """Whether the last word may be the beginning of one."""
    return not words.rstrip(" ").endswith('"') and not words.endswith(" ")


def match_expression(words: str) -> str:
    """FTS5's expression for what a user typed; empty if there is nothing to look for."""
    terms = _terms(words)
    if not terms:
        return ""
    escaped = ['"' + term.replace('"', '""').replace("\0", " ") + '"' for term in terms]
    return " ".join(escaped) + ("*" if _is_open(words) else "")


def search(db: Database, words: str, within: Within = EVERYTHING, *, limit: int = 50) -> list[Hit]:
    """Titles first, then messages, the newest first in each.

    What a compaction copied is the same turn twice: it is listed once, by its newest copy.
    """
    expression = match_expression(words)
    if not expression:
        return []
    condition, bindings = within.condition("conversation.updated", _OF_THE_CHAT)
    found = db.read(
        f"""SELECT conversation.id, NULL, title_fts.title, CAST(title_fts.title AS BLOB),
                NULL, created
            FROM title_fts JOIN conversation ON number = title_fts.rowid
            WHERE title_fts MATCH ? AND deleted IS NULL {condition}
            ORDER BY touched DESC LIMIT ?""",
        (expression, *bindings, limit),
    )
    copies = Copies(db)
    before: SqlValue = None
    while len(found) < limit:
        rows = _messages(db, expression, within, before, limit - len(found))
        found += [row for row in rows if copies.is_new(row)]
        if not rows:
            break
        before = rows[-1][6]
    sought = Sought(_terms(words), is_open=_is_open(words))
    return [_hit(sought, *row[:6]) for row in found]


def _messages(
    db: Database, expression: str, within: Within, before: SqlValue, limit: int
) -> list[Row]:
    """Messages with the words, the newest first, older than the one numbered `before`."""
    condition, bindings = within.condition("message.created", "made.message = message.seq")
    return db.read(
        f"""SELECT conversation.id, message.id, title, CAST(message_fts.text AS BLOB), role,
                message.created, message.seq
            FROM message_fts
            JOIN message ON message.seq = message_fts.rowid
            JOIN conversation ON conversation.id = message.conversation
            WHERE message_fts MATCH ? AND message.deleted IS NULL AND conversation.deleted IS NULL
            AND (?2 IS NULL OR message_fts.rowid < ?2)
            {condition} ORDER BY message_fts.rowid DESC LIMIT ?""",
        (expression, before, *bindings, limit),
    )


def _hit(
    sought: Sought,
    conversation: object,
    message: object,
    title: object,
    text: SqlValue,
    role: object,
    at: object,
) -> Hit:
    import msgspec

    values = {
        "conversation": conversation,
        "message": message,
        "title": title,
        "snippet": snippet(_decoded(text), sought),
        "role": role,
        "created": at,
    }
    return msgspec.convert(values, Hit)


def _decoded(text: SqlValue) -> str:
    """Text as bytes: what a person or another program wrote need not all be UTF-8."""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else ""
