"""The trie against comparing every list."""

from hypothesis import given
from hypothesis import strategies as st

from llmchat.engine.worker.memory.trie import Trie, common_prefix

tokens = st.lists(st.integers(0, 2), max_size=12)


def test_common_prefix():
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([], [1]) == 0
    assert common_prefix([1, 2], [1, 2, 3]) == 2
    for cut in range(40):
        one = list(range(40))
        two = [*one[:cut], -1, *one[cut + 1 :]]
        assert common_prefix(one, two) == cut


def test_everybody_is_found_the_longest_first():
    trie: Trie[str] = Trie()
    for name, held in (("a", [1, 2, 3]), ("b", [1, 2]), ("c", [1, 2, 4, 5]), ("d", [7])):
        trie.place(name, held)
    assert list(trie.matches([1, 2, 4])) == [
        (3, "c"),
        *((2, name) for _, name in [(2, "b"), (2, "a")]),
    ]
    assert list(trie.matches([8])) == []
    trie.place("c", [9])
    assert {name for _, name in trie.matches([1, 2, 4])} == {"a", "b"}
    assert len(trie) == 4


@given(
    st.lists(
        st.tuples(st.sampled_from(["place", "extend", "remove"]), st.integers(0, 5), tokens),
        max_size=40,
    ),
    tokens,
)
def test_it_knows_what_a_list_of_lists_knows(steps, asked):
    trie: Trie[int] = Trie()
    plain: dict[int, list[int]] = {}
    for what, holder, held in steps:
        if what == "place":
            trie.place(holder, held)
            plain[holder] = held
        elif what == "extend":
            trie.extend(holder, held)
            plain[holder] = plain.get(holder, []) + held
        else:
            trie.remove(holder)
            plain.pop(holder, None)
    shared = {holder: common_prefix(held, asked) for holder, held in plain.items()}
    found = list(trie.matches(asked))
    assert {holder: common for common, holder in found} == {
        holder: common for holder, common in shared.items() if common
    }
    assert len(found) == len({holder for _, holder in found})
    lengths = [common for common, _ in found]
    assert lengths == sorted(lengths, reverse=True)
