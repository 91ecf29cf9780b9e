"""One request through the real loop: text, ends, cancel, bad input."""

import time

import pytest

from llmchat.engine.protocol import (
    ChatMessage,
    Delta,
    Generate,
    Messages,
    PromptProgress,
    RawText,
    RawTokens,
)
from llmchat.values import Sampling
from tests.engine.worker.driver import Driver

pytestmark = pytest.mark.model
GREEDY = Sampling(temperature=0)


def chat(*words: str) -> Messages:
    roles = ("user", "assistant")
    return Messages(
        messages=tuple(
            ChatMessage(role=roles[place % 2], content=text) for place, text in enumerate(words)
        )
    )


def generate(prompt=None, **fields) -> Generate:
    fields.setdefault("sampling", GREEDY)
    return Generate(id=1, prompt=prompt or chat("Name three colours."), **fields)


def test_streams_text_and_ends_with_everything_about_it(worker: Driver):
    asked = worker.ask(generate(max_tokens=12)).wait()
    deltas = [event for event in asked.events if isinstance(event, Delta)]
    assert 1 < len(deltas) <= 12  # the first token at once, others with those that come soon
    done = asked.finished()
    assert done.reason == "length"
    assert done.usage.completion_tokens == len(done.tokens) == 12
    assert done.usage.prompt_tokens == done.usage.from_memory + done.usage.read
    assert done.seed is not None
    assert done.vocab == worker.facts.vocab
    assert done.timings.first_token > 0
    assert done.timings.generation > 0
    progress = [event for event in asked.events if isinstance(event, PromptProgress)]
    assert progress[-1].done == progress[-1].total == done.usage.prompt_tokens


def test_the_model_ends_by_itself_and_its_sign_is_not_text(worker: Driver):
    asked = worker.ask(generate(chat("Say only: yes"), max_tokens=200)).wait()
    assert asked.finished().reason == "stop"
    assert "<|im_end|>" not in asked.text()


def test_greedy_twice_is_the_same_and_a_seed_repeats_an_answer(worker: Driver):
    prompt = chat("Tell me about the sea.")
    texts = [worker.ask(generate(prompt, max_tokens=16)).wait().text() for _ in range(2)]
    assert texts[0] == texts[1]
    free = Sampling(temperature=1.0)
    first = worker.ask(generate(prompt, sampling=free, max_tokens=16)).wait()
    seed = first.finished().seed
    again = worker.ask(
        generate(prompt, sampling=Sampling(temperature=1.0, seed=seed), max_tokens=16)
    ).wait()
    assert again.text() == first.text()


def test_a_stop_string_ends_the_reply_and_never_leaks(worker: Driver):
    whole = worker.ask(generate(max_tokens=20)).wait().text()
    word = whole[5:9]
    asked = worker.ask(generate(max_tokens=20, stop=(word,))).wait()
    assert asked.finished().reason == "stop"
    assert asked.text() == whole[: whole.index(word)]


def test_ignore_eos_writes_on(worker: Driver):
    asked = worker.ask(generate(chat("Say only: yes"), max_tokens=60, ignore_eos=True)).wait()
    assert asked.finished().reason == "length"
    assert asked.finished().usage.completion_tokens == 60


def test_forced_words_come_first(worker: Driver):
    asked = worker.ask(generate(forced="Blue, ", max_tokens=4)).wait()
    assert asked.text().startswith("Blue, ")
    assert asked.finished().usage.completion_tokens == 4
    assert len(asked.finished().tokens) > 4


def test_cancel_while_it_writes_takes_effect_at_once(worker: Driver):
    asked = worker.ask(generate(max_tokens=900, ignore_eos=True))
    asked.until(lambda events: sum(isinstance(event, Delta) for event in events) >= 3)
    started = time.perf_counter()
    asked.cancel()
    asked.wait()
    assert time.perf_counter() - started < 2.5
    assert asked.finished().reason == "cancelled"


def test_cancel_while_it_reads_takes_effect_at_once_and_the_next_request_works(worker: Driver):
    words = RawText(text="one two three four five six seven eight " * 110)
    asked = worker.ask(generate(words, max_tokens=5))
    asked.until(lambda events: any(isinstance(event, PromptProgress) for event in events))
    started = time.perf_counter()
    asked.cancel()
    asked.wait()
    assert time.perf_counter() - started < 3
    assert asked.finished().reason == "cancelled"
    assert worker.ask(generate(max_tokens=3)).wait().finished().reason == "length"


def test_a_prompt_that_does_not_fit_is_refused_before_it_is_read(worker: Driver):
    asked = worker.ask(generate(RawText(text="word " * 5000))).wait()
    assert asked.failed().code == "context_exceeded"
    assert not any(isinstance(event, PromptProgress) for event in asked.events)


def test_a_full_context_ends_the_reply(worker: Driver):
    prompt = RawText(text="word " * 1015)
    asked = worker.ask(generate(prompt, ignore_eos=True)).wait()
    assert asked.finished().reason == "context"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (generate(RawTokens(tokens=(1, 2, 10**6))), "bad_request"),
        (generate(RawTokens(tokens=(-1,))), "bad_request"),
        (generate(RawTokens(tokens=())), "bad_request"),
        (generate(n=1000), "bad_request"),
        (generate(n=0), "bad_request"),
        (generate(forced=(10**7,)), "bad_request"),
        (generate(sampling=Sampling(temperature=float("nan"))), "bad_request"),
        (generate(sampling=Sampling(repeat_penalty=0.0)), "bad_request"),
        (generate(sampling=Sampling(mirostat=7)), "bad_request"),
        (generate(sampling=Sampling(samplers=("nonsense",))), "bad_request"),
        (generate(sampling=Sampling(logit_bias={10**6: 1.0})), "bad_request"),
        (generate(sampling=Sampling(logit_bias={-5: 1.0})), "bad_request"),
    ],
)
def test_what_would_end_the_process_is_one_failed_request(worker: Driver, request_, code):
    assert worker.ask(request_).wait().failed().code == code
    assert worker.ask(generate(max_tokens=1)).wait().finished().reason == "length"


def test_half_a_character_at_a_cut_is_no_text_and_its_tokens_are_kept(worker: Driver):
    backend = worker.backend
    assert backend._opened is not None
    vocab = backend._opened.loaded.vocab
    whole = vocab.tokenize("A fish:\N{TROPICAL FISH}")
    pieces = [vocab.piece(token) for token in whole]
    cut = next(
        count
        for count in range(len(whole), 0, -1)
        if vocab.text(whole[:count]).endswith("\ufffd") and pieces[count - 1]
    )
    forced = tuple(whole[:cut])
    asked = worker.ask(generate(forced=forced, max_tokens=0)).wait()
    assert asked.finished().reason == "length"
    assert asked.text() == "A fish:"
    assert asked.finished().tokens == forced
    # Given back unedited, those very tokens are the prompt, not their text read anew.
    question = chat("Name three colours.", asked.text(), "And two fish?")
    reply = ChatMessage(role="assistant", content=asked.text(), tokens=forced, vocab=vocab.digest)
    messages = (question.messages[0], reply, question.messages[2])
    again = worker.ask(generate(Messages(messages=messages), max_tokens=1)).wait()
    first = asked.finished().usage.prompt_tokens
    assert again.finished().usage.from_memory >= first - 1
