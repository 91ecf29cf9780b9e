"""A reply's text on its way out: when it is made, and that nothing of it is lost."""

import pytest

from llmchat.engine.protocol import Delta, DeltaKind, Event, TokenInfo
from llmchat.engine.worker.reply_text import PACE, PlainParser, ReplyText

SOON = PACE / 10
LATER = 2 * PACE


class Calls(PlainParser):
    """Everything after `{` is a call."""

    def __init__(self) -> None:
        self.verbatim = False

    def feed(self, text: str) -> tuple[tuple[DeltaKind, str], ...]:
        before, brace, after = text.partition("{")
        if self.verbatim or not brace:
            return (("tool" if self.verbatim else "text", text),)
        self.verbatim = True
        return (("text", before), ("tool", brace + after))


class Sent:
    """What a client gets."""

    def __init__(self, *stop: str, parser: PlainParser | None = None) -> None:
        self.deltas: list[Delta] = []
        self.text = ReplyText(7, 1, self._emit, parser or PlainParser(), stop)

    def _emit(self, event: Event) -> None:
        assert isinstance(event, Delta)
        assert (event.id, event.choice) == (7, 1)
        self.deltas.append(event)

    @property
    def texts(self) -> list[str]:
        return [delta.text for delta in self.deltas]


def test_the_first_piece_leaves_at_once_and_the_next_ones_together():
    sent = Sent()
    for number, piece in enumerate((b"one", b" two", b" three")):
        sent.text.add(piece, (), number * SOON)
    assert sent.texts == ["one"]
    sent.text.add(b" four", (), PACE)
    assert sent.texts == ["one", " two three four"]
    sent.text.add(b" five", (), PACE + LATER)  # a slow model waits for nothing
    assert sent.texts[2:] == [" five"]


def test_what_waits_is_sent_when_nothing_may_join_it_and_at_the_end():
    sent = Sent()
    for piece in (b"one", b" two"):
        sent.text.add(piece, (), 0.0)
    sent.text.catch_up()
    sent.text.catch_up()
    assert sent.texts == ["one", " two"]
    sent.text.add(b" three", (), SOON)
    sent.text.end(whole=True)
    assert "".join(sent.texts) == "one two three"


@pytest.mark.parametrize("whole", [True, False])
def test_a_character_may_be_split_over_what_waits(whole: bool):
    sent = Sent()
    for byte in "aé€😀".encode() + b"\xf0\x9f":
        sent.text.add(bytes([byte]), (), 0.0)
    sent.text.end(whole=whole)
    assert "".join(sent.texts) == "aé€😀" + ("\N{REPLACEMENT CHARACTER}" if whole else "")


def test_a_stop_string_is_seen_with_the_token_that_completes_it():
    sent = Sent("END")
    for piece in (b"one", b" E", b"N"):
        sent.text.add(piece, (), 0.0)
        assert not sent.text.stopped
    sent.text.add(b"D!", (), 0.0)
    assert sent.text.stopped
    sent.text.end(whole=True)
    assert "".join(sent.texts) == "one "


def test_what_was_asked_about_a_token_leaves_with_it():
    sent = Sent()
    sent.text.add(b"one", (TokenInfo(1),), 0.0)
    sent.text.add(b"\xc3", (TokenInfo(2),), 0.0)
    sent.text.add(b"\xa9", (TokenInfo(3),), 0.0)
    assert [(delta.text, delta.tokens[0].token) for delta in sent.deltas] == [
        ("one", 1),
        ("", 2),
        ("é", 3),
    ]


def test_whether_a_control_token_belongs_to_a_call_is_known_after_what_waits():
    sent = Sent(parser=Calls())
    sent.text.add(b"look: ", (), 0.0)
    sent.text.add(b"{", (), SOON)
    assert sent.texts == ["look: "]
    assert sent.text.verbatim
    assert [delta.kind for delta in sent.deltas] == ["text", "tool"]
