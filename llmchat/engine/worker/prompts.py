"""From a prompt as the wire carries it to token ids, part by part.

Owns that template parts are read with special tokens and message contents without, that BOS comes
once, and that an unedited reply's own token ids are used verbatim. Refuses rendering (`chat/`).
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct

from llmchat.engine.protocol import ChatMessage, Messages, Prompt, RawText, RawTokens
from llmchat.engine.worker.chat.segments import Segment, fuse
from llmchat.engine.worker.chat.template import ChatTemplate
from llmchat.engine.worker.vocab import Vocab
from llmchat.errors import GenerationFailed


class Read(Struct, frozen=True):
    """A prompt's text and its tokens."""

    text: str
    tokens: list[int]
    segments: tuple[Segment, ...] = ()
    """What the template rendered; empty for raw prompts."""

    @property
    def digest(self) -> str:
        """16 hex digits of the tokens' sha256."""
        return hashlib.sha256(np.asarray(self.tokens, np.int32).tobytes()).hexdigest()[:16]


def read(prompt: Prompt, vocab: Vocab, template: ChatTemplate) -> Read:
    """The tokens of a prompt.

    Raises:
        GenerationFailed: token ids outside the vocabulary, or what the template refuses.
    """
    if isinstance(prompt, RawTokens):
        if not all(0 <= token < vocab.size for token in prompt.tokens):
            raise GenerationFailed("engine.bad_tokens")
        return Read(vocab.text(prompt.tokens), list(prompt.tokens))
    if isinstance(prompt, RawText):
        tokens = vocab.tokenize(prompt.text, special=prompt.parse_special, add_special=True)
        return Read(prompt.text, tokens)
    return _read_messages(prompt, vocab, template.render(prompt))


def _read_messages(prompt: Messages, vocab: Vocab, segments: Sequence[Segment]) -> Read:
    tokens: list[int] = []
    for kept, run in _runs(prompt, vocab, segments):
        if kept is not None:
            tokens += kept
            continue
        tokens += read_segments(vocab, run, tokens)
    text = "".join(segment.text for segment in segments)
    return Read(text, _once(vocab, tokens), tuple(segments))


def by_message(prompt: Messages, vocab: Vocab, segments: Sequence[Segment]) -> tuple[int, ...]:
    """Tokens of each message with the template's words around it; about, at the borders."""
    counts = [0] * len(prompt.messages)
    for segment in segments:
        if segment.message is not None and 0 <= segment.message < len(counts):
            counts[segment.message] += len(vocab.tokenize(segment.text, special=segment.special))
    return tuple(counts)


def _runs(
    prompt: Messages, vocab: Vocab, segments: Sequence[Segment]
) -> list[tuple[list[int] | None, list[Segment]]]:
    """The segments in runs, those with kept tokens alone."""
    runs: list[tuple[list[int] | None, list[Segment]]] = []
    for segment in segments:
        kept = _kept(segment, prompt.messages, vocab)
        if kept is not None or not runs or runs[-1][0] is not None:
            runs.append((kept, []))
        runs[-1][1].append(segment)
    return runs


def _kept(segment: Segment, messages: Sequence[ChatMessage], vocab: Vocab) -> list[int] | None:
    """An unedited reply's own tokens, if they still say what the segment says."""
    if segment.special or segment.message is None or segment.message >= len(messages):
        return None
    kept = messages[segment.message]
    if not kept.tokens or kept.vocab != vocab.digest:
        return None
    if not all(0 <= token < vocab.size for token in kept.tokens):
        return None
    tokens = list(kept.tokens)
    # A reply that was cut off may end in half a character, which its text does not show.
    said = (vocab.text(tokens), vocab.text(tokens, whole=False))
    return tokens if segment.text in said else None


def read_segments(
    vocab: Vocab, segments: Iterable[Segment], before: Sequence[int] = ()
) -> list[int]:
    """Tokens of a rendered text that follows the tokens `before`: no content becomes a sign."""
    tokens: list[int] = []
    for segment in fuse(segments, vocab.control_texts):
        special = segment.special
        tokens += _follow(vocab, tokens or before, segment.text, special=special)
    return tokens


def _follow(vocab: Vocab, before: Sequence[int], text: str, *, special: bool) -> list[int]:
    """Tokens of a text after others: inside a line, SPM must put no space in front."""
    if not before or special or before[-1] in vocab.controls:
        return vocab.tokenize(text, special=special)
    return vocab.tokenize_inside(text)


def _once(vocab: Vocab, tokens: list[int]) -> list[int]:
    """BOS exactly once where the vocabulary wants it: many templates write it themselves."""
    if vocab.bos < 0 or not vocab.adds_bos:
        return tokens
    start = 0
    while start < len(tokens) and tokens[start] == vocab.bos:
        start += 1
    return [vocab.bos, *tokens[start:]]


def forced_tokens(forced: str | tuple[int, ...], vocab: Vocab) -> list[int]:
    """What a reply must begin with, as tokens.

    Raises:
        GenerationFailed: a token id outside the vocabulary.
    """
    if isinstance(forced, str):
        return vocab.tokenize_inside(forced)
    if not all(0 <= token < vocab.size for token in forced):
        raise GenerationFailed("engine.bad_tokens")
    return list(forced)
