"""What a client may ask of a worker. Each says what answers it."""

from typing import Final, Literal

from msgspec import Struct

from llmchat.engine.protocol.prompt import Prompt
from llmchat.values import Constraint, Sampling, Wants

PROTOCOL_VERSION: Final = 1

MAX_CHOICES: Final = 64
"""Replies that one request may ask for: no more sequences than a context is made with."""


class Scaled(Struct, frozen=True, kw_only=True):
    """An adapter's or control vector's file, loaded by the worker's wants, and how much of it."""

    path: str
    scale: float = 1.0


class Hello(Struct, frozen=True, kw_only=True, tag="hello"):
    """First frame of every connection. JSON, frozen."""

    id: int = 0
    version: int = PROTOCOL_VERSION
    client: str = ""
    """Who is asking, for `ps` and for ModelBusy: `tui`, `run`, `serve`, with the pid."""
    pid: int = 0
    keep_alive: float | None = None
    wants: Wants | None = None


class StatusRequest(Struct, frozen=True, kw_only=True, tag="status"):
    """Who are you, what do you hold? JSON, frozen."""

    id: int


class Shutdown(Struct, frozen=True, kw_only=True, tag="shutdown"):
    """Leave. JSON, frozen. Answered with Done, or Failed(code="busy") if `if_idle` and busy."""

    id: int
    if_idle: bool = False


class Generate(Struct, frozen=True, kw_only=True, tag="generate", omit_defaults=True):
    """Write `n` replies. Answered with Queued*, PromptProgress*, Delta*, and n Finished."""

    id: int = 0
    prompt: Prompt
    sampling: Sampling = Sampling()
    constraint: Constraint | None = None
    n: int = 1
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_tokens: tuple[int, ...] = ()
    """Tokens that end the reply and are no part of it."""
    ignore_eos: bool = False
    forced: str | tuple[int, ...] = ""
    """What the reply begins with; not sampled, but sent as deltas."""
    top_logprobs: int = 0
    want_tokens: bool = False
    """Deltas carry token ids even without logprobs."""
    priority: int = 0
    lora: tuple[Scaled, ...] = ()
    """Adapters that count for this reply; those that are left out have no say."""
    control_vectors: tuple[Scaled, ...] = ()
    speculation: Literal["off", "ngram"] = "off"
    """`ngram`: guess from what was said before. The reply is the same; copying is faster."""
    tag: str = ""
    """Whose memory its cells are: the conversation's id. Without one they never reach a disk."""


class Cancel(Struct, frozen=True, kw_only=True, tag="cancel"):
    """Stop the request `target`: it ends with Finished(cancelled). Not answered itself."""

    id: int
    target: int


class Render(Struct, frozen=True, kw_only=True, tag="render"):
    """The exact prompt: answered with Rendered."""

    id: int
    prompt: Prompt


class Count(Struct, frozen=True, kw_only=True, tag="count"):
    """How many tokens: answered with Counted."""

    id: int
    prompt: Prompt


class Tokenize(Struct, frozen=True, kw_only=True, tag="tokenize"):
    """Token ids and pieces of a text: answered with Tokenized."""

    id: int
    text: str
    parse_special: bool = False
    add_special: bool = False


class Embed(Struct, frozen=True, kw_only=True, tag="embed"):
    """Vectors of texts: answered with PromptProgress* (counting texts) and Embedded."""

    id: int
    texts: tuple[str, ...]
    truncate: bool = False
    """Cut a text that is too long, instead of refusing it."""
    normalize: bool = True
    """Vectors of length 1 (L2)."""
    first: int = 1
    """The first text's number, for errors, when a long list comes in several requests."""


class Rerank(Struct, frozen=True, kw_only=True, tag="rerank"):
    """Scores of documents for a query: answered with PromptProgress* and Reranked."""

    id: int
    query: str
    documents: tuple[str, ...]
    truncate: bool = False


class Inspect(Struct, frozen=True, kw_only=True, tag="inspect"):
    """Look inside at one position: answered with Inspected, or Failed(code="unsupported")."""

    id: int
    tokens: tuple[int, ...]
    position: int
    what: Literal["attention", "layers"]


class Ping(Struct, frozen=True, kw_only=True, tag="ping"):
    """Are you alive? Answered with Pong by the reader thread, even while the loop computes."""

    id: int


class KeepAlive(Struct, frozen=True, kw_only=True, tag="keep_alive"):
    """This connection's wish: idle seconds before the worker leaves (0, -1 as in settings)."""

    id: int
    seconds: float


class Proceed(Struct, frozen=True, kw_only=True, tag="proceed"):
    """Answers Plan: go on and allocate, plan `again` since others made room, or leave."""

    id: int = 0
    go: bool = True
    again: bool = False
    plan: int = 1
    """The number of the plan that this answers; answers to older ones are dropped."""


Request = (
    Hello
    | StatusRequest
    | Shutdown
    | Generate
    | Cancel
    | Render
    | Count
    | Tokenize
    | Embed
    | Rerank
    | Inspect
    | Ping
    | KeepAlive
    | Proceed
)
