"""The cleaning boundary (security F1)."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from llmchat.text.cleaning import StreamCleaner, clean, clean_line

FORBIDDEN = (
    {chr(c) for c in range(0x20)} - {"\n", "\t"}
    | {chr(c) for c in range(0x7F, 0xA0)}
    | set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\ufeff\u200b")
    | {chr(c) for c in range(0xE0000, 0xE0080)}
)


def test_escape_becomes_visible():
    assert clean("\x1b]52;c;AAAA\x07") == "␛]52;c;AAAA␇"


def test_what_people_write_stays():
    words = "می‌خواهم 👩‍🚀 naïve\n\tتست ❤️"
    assert clean(words) == words


def test_crlf_is_a_newline_and_a_lone_cr_is_visible():
    assert clean("a\r\nb\rc") == "a\nb␍c"


def test_line_folds_and_cuts():
    assert clean_line("  a\n\n b\tc  ") == "a b c"
    assert clean_line("abcdef", 4) == "abc…"


def test_200000_strings_hold_nothing_forbidden_and_cleaning_twice_changes_nothing():
    rng = random.Random(20261122)
    alphabet = [*sorted(FORBIDDEN), "a", "é", "\n", "\r", "\u200d", "\ud800", "😀", " "]
    for _ in range(200_000):
        text = "".join(rng.choices(alphabet, k=rng.randrange(9)))
        cleaned = clean(text)
        assert not FORBIDDEN.intersection(cleaned)
        assert clean(cleaned) == cleaned


@given(st.text(), st.lists(st.integers(0, 200)))
def test_any_split_gives_the_same(text, cuts):
    text = text.replace("a", "\r\n").replace("b", "\x1b")
    cleaner = StreamCleaner()
    edges = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    pieces = [cleaner.feed(text[a:b]) for a, b in itertools.pairwise(edges)]
    assert "".join(pieces) + cleaner.end() == clean(text)
