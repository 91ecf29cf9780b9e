"""What is written is clean, aligned and exact."""

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmchat.cli import output
from llmchat.text.cleaning import clean


def test_a_table_has_ollamas_columns(capsys):
    output.table(("NAME", "SIZE"), [("smollm2:135m", "98 MB"), ("日本", "1 GB")])
    assert capsys.readouterr().out == (
        "NAME            SIZE\nsmollm2:135m    98 MB\n日本            1 GB\n"
    )


def test_cells_of_a_table_are_clean_single_lines(capsys):
    output.table(("NAME", "X"), [("a\x1b]52;c;aGk=\x07\nb", "\u202e")])
    assert capsys.readouterr().out == "NAME               X\na␛]52;c;aGk=␇ b    <U+202E>\n"


@given(st.text())
def test_json_is_exact_and_harmless(text: str):
    written = io.StringIO()
    before, sys.stdout = sys.stdout, written
    try:
        output.answer_json({"text": text})
    except UnicodeEncodeError:  # lone surrogates never get this far: msgspec refuses them
        return
    finally:
        sys.stdout = before
    raw = written.getvalue()
    assert json.loads(raw)["text"] == text
    assert clean(raw) == raw


def test_no_status_without_a_terminal(capsys):
    output.status("loading")
    output.end_status()
    assert capsys.readouterr().err == ""


def test_colour_obeys_no_color(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert output.may_colour(Screen())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.may_colour(Screen())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not output.may_colour(Screen())


@pytest.mark.parametrize("stream", [None])
def test_a_stream_that_was_closed_before_us_is_nothing_to_write_to(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    output.answer("unseen")
