"""A constraint waits for the end of thinking; whoever asks for JSON gets JSON."""

import re
from typing import Any

import numpy as np
import pytest

from llmchat.engine.protocol import ChatMessage, Constraint, Generate, Messages
from llmchat.engine.worker.chat.template import ChatTemplate
from llmchat.engine.worker.constraint.thinking import AfterThinking, Way
from llmchat.values import Sampling
from tests.engine.worker.driver import Driver

PIECES = ["<end>", "<think>", "</think>", "a", "b", "yes", "no", "\n", ">x", "</think", "<|go|>"]
END, THINK, CLOSE, A, B, YES, NO, LINE, SPOILS, BROKEN, GO = range(len(PIECES))


class FakeVocab:
    ends = frozenset({END})

    def piece(self, token: int) -> bytes:
        return PIECES[token].encode()


class FakeChain:
    """Takes the largest."""

    def __init__(self) -> None:
        self.accepted: list[int] = []

    def pick(self, rows: Any) -> int:
        return int(rows["id"][rows["logit"].argmax()])

    def accept(self, token: int) -> None:
        self.accepted.append(token)


class YesOrNo:
    """An inner rule: one of two words, then nothing."""

    def __init__(self) -> None:
        self.complete = False
        self.closed = False

    def sample(self, chain: Any, logits: Any) -> int | None:
        if self.complete:
            return None
        token = YES if logits[YES] >= logits[NO] else NO
        self.force(token)
        return token

    def force(self, token: int) -> bool:
        self.complete = token in (YES, NO)
        return self.complete

    def close(self) -> None:
        self.closed = True


def reply(way: Way, wishes: list[int], forced: tuple[int, ...] = ()) -> list[int]:
    """What comes out when the model would write `wishes`, one a step."""
    rule = AfterThinking(FakeVocab(), YesOrNo(), way)  # type: ignore[arg-type]
    assert all(rule.force(token) for token in forced)
    chain, said = FakeChain(), []
    for wish in [*wishes, *[A] * 9]:
        logits = np.zeros(len(PIECES), np.float32)
        logits[wish] = 1
        token = rule.sample(chain, logits)  # type: ignore[arg-type]
        if token is None:
            break
        said.append(token)
        if rule.complete:
            break
    rule.close()
    return said


INSIDE = Way(inside=True, start=(THINK,), end="</think>", end_tokens=(CLOSE,))
MAY = Way(start=(THINK,), end="</think>", end_tokens=(CLOSE,))
HEADED = Way(
    start=(THINK,), end="</think>", end_tokens=(CLOSE,), after=(GO, LINE), alone=(GO, LINE)
)


@pytest.mark.parametrize(
    ("way", "wishes", "said"),
    [
        (INSIDE, [A, B, CLOSE, NO], [A, B, CLOSE, NO]),
        (INSIDE, [A, END, NO], [A, CLOSE, NO]),  # closed instead of ended
        (INSIDE, [A, BROKEN, SPOILS, NO], [A, BROKEN, CLOSE, NO]),  # `</think>x` is no answer
        (MAY, [THINK, A, CLOSE, NO], [THINK, A, CLOSE, NO]),
        (MAY, [A], [YES]),  # no thinking: constrained from the first token
        (MAY, [NO], [NO]),
        (HEADED, [GO, A, NO], [GO, LINE, NO]),
        (HEADED, [THINK, A, CLOSE, A, A, NO], [THINK, A, CLOSE, GO, LINE, NO]),
        (Way(), [NO], [NO]),
    ],
    ids=range(9),
)
def test_the_way_to_an_answer(way, wishes, said):
    assert reply(way, wishes) == said


def test_forced_words_walk_the_same_way():
    assert reply(MAY, [CLOSE, NO], forced=(THINK, A)) == [CLOSE, NO]
    assert reply(HEADED, [NO], forced=(GO, LINE)) == [NO]
    assert reply(INSIDE, [NO], forced=(A, CLOSE)) == [NO]
    rule = AfterThinking(FakeVocab(), YesOrNo(), MAY)  # type: ignore[arg-type]
    assert not rule.force(A)


THINKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}{% endif %}"
)


@pytest.mark.model
@pytest.mark.parametrize("kind", ["regex", "gbnf"])
def test_a_model_that_thinks_answers_in_the_grammar(
    worker: Driver, kind, monkeypatch: pytest.MonkeyPatch
):
    template = ChatTemplate(THINKS, bos="<|im_start|>", eos="<|im_end|>")
    monkeypatch.setattr(worker.backend._opened, "template", template)
    text = "(yes|no)" if kind == "regex" else 'root ::= "yes" | "no"'
    question = ChatMessage(role="user", content="Is the sky blue? Say yes or no.")

    def ask(**kwargs: Any) -> Any:
        return worker.ask(
            Generate(
                id=1,
                prompt=Messages(messages=(question,), template_kwargs=kwargs),
                constraint=Constraint(kind=kind, text=text),
                sampling=Sampling(temperature=0),
                max_tokens=200,
            )
        ).wait()

    asked = ask()
    assert re.fullmatch("yes|no", asked.text())
    assert len(asked.text(kind="thinking")) > 3
    assert asked.finished().reason == "stop"
    plain = ask(enable_thinking=False)
    assert re.fullmatch("yes|no", plain.text())
    assert plain.text(kind="thinking") == ""
