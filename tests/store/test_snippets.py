"""What is shown of a hit: the words around the first match, matches marked, in linear time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmchat.store.snippets import MATCH_END, MATCH_START, Sought, snippet


def shown(text: str, *terms: str, is_open: bool = False) -> str:
    marked = snippet(text, Sought(terms, is_open=is_open))
    return marked.replace(MATCH_START, "[").replace(MATCH_END, "]")


@pytest.mark.parametrize(
    ("text", "terms", "expected"),
    [
        ("the cat sat", ["cat"], "the [cat] sat"),
        ("The CAT, the Cat!", ["cat"], "The [CAT], the [Cat]!"),
        ("un café noir", ["cafe"], "un [café] noir"),
        ("un cafe noir", ["Café"], "un [cafe] noir"),
        ("cats and dogs", ["dog"], "cats and dogs"),
        ("see the red fox run", ["red fox"], "see the [red] [fox] run"),
        ("snake_case is two", ["case"], "snake_[case] is two"),
        ("日本語 wave", ["日本語"], "[日本語] wave"),
    ],
)
def test_words_are_marked_as_the_index_finds_them(text, terms, expected):
    assert shown(text, *terms) == expected


def test_the_last_word_may_be_a_beginning():
    assert shown("cats and dogs", "and", "dog", is_open=True) == "cats [and] [dogs]"
    assert shown("cats and dogs", "cat", "dogs", is_open=True) == "cats and [dogs]"


def test_a_long_text_is_cut_around_its_first_match():
    text = " ".join(f"w{number}" for number in range(1000))
    found = shown(text, "w500")
    assert found.startswith("…w494 ")
    assert "w499 [w500] w501" in found
    assert found.endswith(" w517…")


def test_no_match_shows_the_beginning_and_words_without_end_are_cut():
    assert shown("a " * 100, "b") == "a " * 100
    assert len(shown("x" * 1_000_000 + " b " + "y" * 1_000_000, "b")) < 1000
    assert len(shown("x" * 1_000_000, "x", is_open=True)) <= 1_000_003
    assert shown("a " * 1000, "b") == "a " * 200 + "…"
    assert shown("", "b") == ""
    assert shown("…!?", "b") == "…!?"


@given(st.text(), st.text(min_size=1), st.booleans())
def test_it_is_a_stretch_of_the_text(text, term, is_open):
    marked = snippet(text, Sought([term], is_open=is_open))
    plain = marked.replace(MATCH_START, "").replace(MATCH_END, "").removeprefix("…")
    source = text.replace(MATCH_START, "").replace(MATCH_END, "")
    assert plain.removesuffix("…") in source or plain in source
