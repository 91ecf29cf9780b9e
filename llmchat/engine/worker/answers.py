"""The small answers: counting, rendering, tokenizing. Computed between two steps of the loop."""

from llmchat.engine.backend import Work
from llmchat.engine.protocol import (
    Count,
    Counted,
    Embed,
    Event,
    Messages,
    Render,
    Rendered,
    Rerank,
    Tokenize,
    Tokenized,
)
from llmchat.engine.worker import prompts
from llmchat.engine.worker.opening import Opened
from llmchat.errors import GenerationFailed


def answer(work: Work, opened: Opened) -> Event:
    """What a request that is not Generate is answered with.

    Raises:
        GenerationFailed: this worker cannot do it.
    """
    if isinstance(work, Count):
        read = prompts.read(work.prompt, opened.loaded.vocab, opened.template)
        shares: tuple[int, ...] = ()
        if isinstance(work.prompt, Messages):
            shares = prompts.by_message(work.prompt, opened.loaded.vocab, read.segments)
        return Counted(id=work.id, tokens=len(read.tokens), messages=shares)
    if isinstance(work, Render):
        read = prompts.read(work.prompt, opened.loaded.vocab, opened.template)
        known = opened.table.known(read.tokens)
        return Rendered(id=work.id, text=read.text, tokens=tuple(read.tokens), in_memory=known)
    if isinstance(work, Tokenize):
        return _tokenize(work, opened)
    if isinstance(work, Embed):
        raise GenerationFailed("engine.no_vectors", model=opened.facts.model)
    if isinstance(work, Rerank):
        raise GenerationFailed("engine.no_reranker", model=opened.facts.model)
    raise GenerationFailed("engine.unsupported", what=type(work).__name__)


def _tokenize(work: Tokenize, opened: Opened) -> Tokenized:
    vocab = opened.loaded.vocab
    tokens = vocab.tokenize(work.text, special=work.parse_special, add_special=work.add_special)
    return Tokenized(
        id=work.id, tokens=tuple(tokens), pieces=tuple(vocab.piece(token) for token in tokens)
    )
