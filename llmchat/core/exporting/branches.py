"""Branches of a saved conversation: which messages a reader sees, in order."""

from llmchat.errors import NotFound
from llmchat.values import SavedConversation, SavedMessage


def branch(saved: SavedConversation, leaf: str | None = None) -> list[SavedMessage]:
    """From the root to `leaf`, or to the active leaf; empty for an empty conversation.

    Raises:
        NotFound: the conversation has no such message.
    """
    end = leaf or saved.active_leaf
    if end is None:
        return []
    by_id = {message.id: message for message in saved.messages}
    path: list[SavedMessage] = []
    place: str | None = end
    while place is not None and len(path) <= len(by_id):
        message = by_id.get(place)
        if message is None:
            raise NotFound("store.no_message", text=place)
        path.append(message)
        place = message.parent
    return path[::-1]


def only(saved: SavedConversation, leaf: str) -> SavedConversation:
    """The same conversation with one branch and nothing beside it."""
    from msgspec.structs import replace

    kept = tuple(branch(saved, leaf))
    ids = {message.id for message in kept}
    # What was deleted along with a message that is not here is deleted by its own mark.
    marked = tuple(
        replace(message, deleted=message.id)
        if message.deleted is not None and message.deleted not in ids
        else message
        for message in kept
    )
    return replace(saved, messages=marked, active_leaf=leaf)


def newest_leaf(messages: tuple[SavedMessage, ...]) -> str | None:
    """The leaf that is reached by always taking the newest version; None if nothing is left."""
    newest: dict[str | None, str] = {
        message.parent: message.id for message in messages if message.deleted is None
    }
    leaf = newest.get(None)
    while leaf in newest:
        leaf = newest[leaf]
    return leaf


def words(message: SavedMessage) -> str:
    """The visible text, without thinking and tools."""
    return "".join(part.text for part in message.parts if part.kind == "text")
