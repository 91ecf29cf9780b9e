"""Whatever the conversation and the budget: whole turns, the newest, and the system prompt stay."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from llmchat.core.context import choose, room_for_reply, turns
from llmchat.errors import GenerationFailed

conversations = st.builds(
    lambda system, body: [("system", n) for n in system] + body,
    st.lists(st.integers(1, 50), max_size=1),
    st.lists(
        st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.integers(1, 50)), min_size=1
    ),
)


@given(conversations, st.integers(1, 2000), st.sampled_from(["drop-middle", "rolling"]))
def test_what_is_left_fits_and_is_made_of_whole_turns(messages, budget, policy):
    roles, counts = [role for role, _ in messages], [count for _, count in messages]
    try:
        left_out = set(choose(roles, counts, sum(counts), budget, policy))
    except GenerationFailed:
        newest = sum(counts[i] for i in turns(roles)[-1])
        assert newest + sum(c for r, c in messages[:1] if r == "system") > budget
        return
    kept = [index for index in range(len(roles)) if index not in left_out]
    assert sum(counts[index] for index in kept) <= budget
    assert not (left_out and roles[0] == "system" and 0 in left_out)
    for turn in turns(roles):
        assert len(left_out & set(turn)) in (0, len(turn))
    assert turns(roles)[-1][-1] in kept
    if sum(counts) <= budget:
        assert not left_out
    # Not a turn more than it takes.
    numbers = [n for n, turn in enumerate(turns(roles)) if turn[0] in left_out]
    if numbers:
        last = 0 if policy == "drop-middle" and 0 in numbers else max(numbers)
        extra = sum(counts[i] for i in turns(roles)[last])
        assert sum(counts[index] for index in kept) + extra > budget


@given(conversations, st.integers(1, 2000), st.sampled_from(["stop", "ask"]))
def test_policies_that_drop_nothing(messages, budget, policy):
    roles, counts = [role for role, _ in messages], [count for _, count in messages]
    with contextlib.suppress(GenerationFailed):
        assert choose(roles, counts, sum(counts), budget, policy) == []
        assert sum(counts) <= budget
        return
    assert sum(counts) > budget


@given(conversations, st.integers(1, 2000))
def test_somebody_is_asked_exactly_when_leaving_something_out_would_help(messages, budget):
    roles, counts = [role for role, _ in messages], [count for _, count in messages]

    def outcome(policy):
        try:
            return choose(roles, counts, sum(counts), budget, policy)
        except GenerationFailed as error:
            return error.key

    asked, by_itself = outcome("ask"), outcome("rolling")
    assert (asked == "core.context_ask") == bool(by_itself and isinstance(by_itself, list))
    if asked != "core.context_ask":
        assert asked == by_itself


@given(st.integers(1, 10**6), st.none() | st.integers(1, 10**6))
def test_the_reply_gets_room_and_never_more_than_a_quarter(n_ctx, max_tokens):
    room = room_for_reply(n_ctx, max_tokens)
    assert 1 <= room <= max(1, n_ctx // 4)
    assert max_tokens is None or room <= max_tokens
