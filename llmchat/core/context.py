"""What goes into the context when not all of a conversation fits. Pure: counts in, indexes out.

Whole turns only: a turn is a user's message and what follows it up to the next one. The system
prompt and the newest turn always stay. `drop-middle` keeps the first turn too, as long as it can;
`rolling` drops from the oldest. `stop` and `ask` drop nothing; `ask` lets a person choose another
policy, if another would help.
"""

from collections.abc import Sequence

from llmchat.errors import GenerationFailed

LEAST_REPLY = 256
"""Tokens kept free for the reply when nothing else says how long it may be."""


def room_for_reply(n_ctx: int, max_tokens: int | None) -> int:
    """Tokens of the context that the prompt must leave: at most a quarter of it."""
    quarter = max(1, n_ctx // 4)
    return min(quarter, max_tokens if max_tokens is not None else max(LEAST_REPLY, n_ctx // 8))


def turns(roles: Sequence[str]) -> list[range]:
    """The indexes of each turn, oldest first; system messages at the start belong to none."""
    start = 0
    while start < len(roles) and roles[start] == "system":
        start += 1
    begins = [
        index
        for index in range(start, len(roles))
        if index == start or (roles[index] == "user" and roles[index - 1] != "user")
    ]
    return [range(a, b) for a, b in zip(begins, [*begins[1:], len(roles)], strict=True)]


def drop_order(count: int, policy: str) -> list[int]:
    """Turns by number in the order in which they are dropped; the newest never is."""
    if policy == "rolling":
        return list(range(count - 1))
    if policy == "drop-middle":
        return [*range(1, count - 1), 0] if count > 1 else []
    return []


def choose(
    roles: Sequence[str], counts: Sequence[int], total: int, budget: int, policy: str
) -> list[int]:
    """The indexes to leave out so that the rest is within the budget.

    Args:
        roles: of each message, the system prompt first.
        counts: tokens of each message with its share of the template.
        total: tokens of the whole prompt.
        budget: tokens that the prompt may have.
        policy: see above.

    Raises:
        GenerationFailed: the policy forbids to drop (`core.context_full`), somebody has to choose
            (`core.context_ask`), or the newest turn alone is too long (`core.message_too_long`).
    """
    if total <= budget:
        return []
    found = turns(roles)
    left = total
    dropped: list[int] = []
    for number in drop_order(len(found), policy):
        dropped += found[number]
        left -= sum(counts[index] for index in found[number])
        if left <= budget:
            return sorted(dropped)
    if policy == "stop":
        raise GenerationFailed("core.context_full", recoverable=True, tokens=total, budget=budget)
    if policy == "ask":
        choose(roles, counts, total, budget, "rolling")  # nothing is to be asked if nothing helps
        raise GenerationFailed("core.context_ask", recoverable=True, tokens=total, budget=budget)
    raise GenerationFailed("core.message_too_long", recoverable=True, tokens=left, budget=budget)
