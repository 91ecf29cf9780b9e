"""Where checkpoints are taken, and which are let go."""

import itertools

import numpy as np

from llmchat.engine.worker.chat.segments import Segment
from llmchat.engine.worker.memory.checkpoints import MOST, add, marks
from llmchat.engine.worker.memory.kinds import Checkpoint, Kind, reach

SYSTEM = [Segment("<|system|>", True, 0), Segment("Be kind to everybody.", False, 0)]
USER = [Segment("<|user|>", True, 1), Segment("What is the wide sea?", False, 1)]
SECOND = [Segment("<|user|>", True, 3), Segment("And what is the wind?", False, 3)]
REPLY = [Segment("<|assistant|>", True, 2), Segment("It is full of water.", False, 2)]
ASKING = [Segment("<|assistant|><think>", True, None)]


def pieces(segments: list[Segment], lead: str = "") -> list[bytes]:
    """A byte a token, control tokens whole."""
    found = [lead.encode()] if lead else []
    for segment in segments:
        text = segment.text.encode()
        found += [text] if segment.special else [bytes([byte]) for byte in text]
    return found


def cut(segments: list[Segment], lead: str = "") -> list[str]:
    tokens = pieces(segments, lead)
    places = [0, *marks(segments, tokens), len(tokens)]
    return [b"".join(tokens[start:end]).decode() for start, end in itertools.pairwise(places)]


def test_at_the_first_and_the_last_question_and_before_the_reply():
    prompt = [*SYSTEM, *USER, *REPLY, *SECOND, *ASKING]
    assert cut(prompt) == [
        "<|system|>Be kind to everybody.",
        "<|user|>What is the wide sea?<|assistant|>It is full of water.",
        "<|user|>And what is the wind?",
        "<|assistant|><think>",
    ]


def test_bos_that_the_template_does_not_write_moves_nothing_much():
    assert cut([*SYSTEM, *USER, *ASKING], "<s>")[-1] == "<|assistant|><think>"


def test_words_that_ask_and_cannot_be_told_apart():
    unknown = [*SYSTEM, *USER, Segment("<|assistant|>", True, 1)]
    assert cut(unknown)[-1] == "<|assistant|>"


def test_a_raw_prompt_is_kept_a_little_before_its_end():
    assert marks([], [b"x"] * 100) == [96]
    assert marks([], [b"x"] * 3) == []


def point(end: int) -> Checkpoint:
    return Checkpoint(end, np.zeros(4, np.uint8))


def test_many_are_thinned_and_the_last_always_stays():
    points: list[Checkpoint] = []
    for end in range(10, 1000, 10):
        points = add(points, point(end))
    ends = [one.end for one in points]
    assert len(ends) == MOST
    assert ends == sorted(ends)
    assert ends[-1] == 990
    assert max(b - a for a, b in itertools.pairwise(ends)) <= 500
    assert [one.end for one in add([point(5)], point(5))] == [5]


def test_the_rule_of_reuse():
    window = Kind(n_swa=512)
    assert reach(window, 3000, 1976, 3000) == 3000  # going on is always right
    assert reach(window, 3000, 1976, 900) == 0
    assert reach(window, 3000, 1976, 900, [400, 800, 950]) == 800
    assert reach(window, 3000, 1976, 2900) == 2900
    assert reach(window, 3000, 0, 900) == 900
    assert window.state_begins(3000, 1976) == 3000 - 512
    assert window.state_begins(300, 0) == 0
    assert Kind(n_swa=512, swa_full=True).state_begins(3000, 0) == 3000 - 512
    assert Kind().state_begins(3000, 0) == 0
    state = Kind(whole_only=True)
    assert reach(state, 100, 0, 100) == 100
    assert reach(state, 100, 0, 99) == 0
    assert reach(state, 100, 0, 99, [50, 100]) == 50
    assert reach(Kind(), 100, 0, 40) == 40
    assert reach(Kind(), 100, 0, 0) == 0
