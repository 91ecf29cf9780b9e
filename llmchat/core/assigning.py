"""From rows that are on the disk to what a turn is asked to do. Runs on the store's thread.

Owns where the next message goes and what a turn is handed; refuses to ask a model or keep a task.
"""

from llmchat.core import prompting
from llmchat.core.turn import Assignment
from llmchat.store.store import Store
from llmchat.values import Message, Part


def next_place(store: Store, id_: str) -> str | None:
    """Where the next message goes; beside a question that is being answered right now."""
    leaf = store.conversations.get(id_).active_leaf
    if leaf is None:
        return None
    message = store.tree.get(leaf)
    if message.status != "streaming" or message.parent is None:
        return leaf
    return store.tree.get(message.parent).parent


def assignment_of(
    store: Store, id_: str, question: str | None, replies: tuple[str, ...], *, end: str | None
) -> Assignment:
    """What a turn needs: the conversation, the branch down to `end`, and the rows to fill."""
    branch = store.tree.branch(id_, end)
    return Assignment(
        conversation=store.conversations.get(id_),
        question=None if question is None else store.tree.get(question),
        replies=tuple(store.tree.get(reply) for reply in replies),
        branch=branch,
        kept=store.writer.tokens([m.id for m in branch if m.role == "assistant"]),
    )


def continuation_of(
    store: Store,
    old: Message,
    parts: tuple[Part, ...],
    kept: prompting.KeptTokens | None = None,
) -> Assignment:
    """A version of a reply that goes on from `parts`; `kept`: its tokens, if they are unedited."""
    shown = store.conversations.get(old.conversation).active_leaf
    _, replies = store.writer.begin(old.conversation, old.parent, first_parts=parts)
    assignment = assignment_of(store, old.conversation, None, replies, end=replies[0])
    assignment.continuing = True
    assignment.begins_with_edit = parts != old.parts
    assignment.back_to = shown
    if kept and old.id in kept:
        assignment.first_tokens = kept[old.id]
    return assignment
