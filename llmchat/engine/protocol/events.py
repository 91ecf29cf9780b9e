"""What a worker says: answers to requests, and facts of its own life."""

from struct import iter_unpack
from typing import Literal

from msgspec import Struct

from llmchat.engine.protocol.requests import PROTOCOL_VERSION
from llmchat.values import FinishReason, Sampling, Timings, ToolCall, Usage, Wants


class Device(Struct, frozen=True, kw_only=True):
    """A device as the engine lists it. Bytes."""

    name: str
    description: str = ""
    type: Literal["cpu", "gpu", "igpu", "accel"] = "cpu"
    free: int = 0
    total: int = 0


class Placement(Struct, frozen=True, kw_only=True):
    """Where a model lies, and why. Bytes per device name."""

    n_gpu_layers: int = 0
    n_layers: int = 0
    memory: dict[str, int] = {}
    explanation: str = ""


class Welcome(Struct, frozen=True, kw_only=True, tag="welcome"):
    """Answers Hello. JSON, frozen."""

    id: int = 0
    version: int = PROTOCOL_VERSION
    llmchat: str = ""
    build: str = ""
    pid: int = 0
    loading: bool = False


class WorkerStatus(Struct, frozen=True, kw_only=True, tag="worker_status"):
    """Answers Status. JSON, frozen: fields may be added with defaults, never removed."""

    id: int = 0
    pid: int = 0
    llmchat: str = ""
    model: str = ""
    path: str = ""
    identity: str = ""
    size: int = 0
    """Bytes the model and its contexts take, all devices."""
    state: Literal["loading", "idle", "busy"] = "loading"
    n_ctx: int = 0
    n_ctx_used: int = 0
    """Cells of the pool in use."""
    pool: int = 0
    sequences: int = 0
    parked: int = 0
    """Idle sequences whose state lies outside the pool, in RAM."""
    parked_bytes: int = 0
    clients: tuple[str, ...] = ()
    """Who is connected, the asker left out."""
    idle_seconds: float = 0.0
    keep_alive: float = 300.0
    n_gpu_layers: int = 0
    n_layers: int = 0
    memory: dict[str, int] = {}
    """Bytes by device."""
    processor: str = "100% CPU"
    """As `ollama ps` prints it: `100% GPU`, `40%/60% CPU/GPU`."""
    wants: Wants | None = None


class Plan(Struct, frozen=True, kw_only=True, tag="plan"):
    """What loading will take, before it takes it. The starter answers with Proceed."""

    id: int = 0
    number: int = 1
    """Counts the plans of one load."""
    devices: tuple[Device, ...]
    needs: dict[str, int]
    short: dict[str, int] = {}
    """Bytes by device that would have to become free for the model to lie as it should: all layers
    on GPUs and the whole context, as far as nothing else was fixed. Empty: nothing is missing."""
    placement: Placement = Placement()


class Loading(Struct, frozen=True, kw_only=True, tag="loading"):
    """Progress of the load, to every connection. `fraction` 0 to 1."""

    id: int = 0
    fraction: float
    stage: Literal["plan", "weights", "context", "warmup"] = "weights"


class TemplateFacts(Struct, frozen=True, kw_only=True):
    """What the chat template can do, as the probe found it."""

    present: bool = True
    digest: str = ""
    system: bool = True
    thinking: Literal["no", "always", "toggle"] = "no"
    tools: bool = False
    thinking_start: str = ""
    thinking_end: str = ""


class Facts(Struct, frozen=True, kw_only=True):
    """What a loaded model is."""

    model: str = ""
    identity: str = ""
    architecture: str = ""
    description: str = ""
    """llama.cpp's own: `llama 135M Q4_1`."""
    n_ctx: int = 0
    """Tokens one sequence may hold."""
    n_ctx_train: int = 0
    pool: int = 0
    n_seq_max: int = 1
    n_vocab: int = 0
    n_embd: int = 0
    """Numbers of a vector, for embedding models and rerankers."""
    vocab: str = ""
    """Hash of the vocabulary."""
    capabilities: tuple[str, ...] = ()
    """Of: chat, thinking, tools, embedding, rerank, vision, swa, recurrent, hybrid, mrope."""
    template: TemplateFacts = TemplateFacts()
    placement: Placement = Placement()
    memory: dict[str, int] = {}
    """Bytes by kind: model, context, compute."""
    sampling: Sampling = Sampling()
    """What the model's metadata recommends."""
    build: str = ""
    """llama-cpp-python's version and llama.cpp's system info hash."""
    n_threads: int = 0


class Ready(Struct, frozen=True, kw_only=True, tag="ready"):
    """The model is loaded; sent to every connection, and first to those that come later."""

    id: int = 0
    facts: Facts


class LoadFailed(Struct, frozen=True, kw_only=True, tag="load_failed"):
    """The model cannot be loaded; the worker leaves after it. `message` is one sentence."""

    id: int = 0
    code: str
    message: str
    last_lines: tuple[str, ...] = ()


class Queued(Struct, frozen=True, kw_only=True, tag="queued"):
    """Waiting for others; `position` counts those ahead."""

    id: int
    position: int


class PromptProgress(Struct, frozen=True, kw_only=True, tag="prompt_progress"):
    """Tokens of the prompt that are in the KV cache now."""

    id: int
    done: int
    total: int
    from_memory: int = 0
    from_disk: int = 0


class Rival(Struct, frozen=True, array_like=True):
    """A candidate for one position: natural logs of the probability before and after samplers."""

    token: int
    piece: bytes
    logprob: float
    sampled_logprob: float | None = None
    """None: the samplers had left it out."""


class TokenInfo(Struct, frozen=True, array_like=True):
    """One token of a reply; `rivals` only when top_logprobs was asked."""

    token: int
    logprob: float | None = None
    sampled_logprob: float | None = None
    rivals: tuple[Rival, ...] = ()


DeltaKind = Literal["text", "thinking", "tool"]


class Delta(Struct, frozen=True, kw_only=True, tag="delta", omit_defaults=True, gc=False):
    """More of a reply. Text is whole characters; a stop string never leaks."""

    id: int
    choice: int = 0
    kind: DeltaKind = "text"
    text: str = ""
    tokens: tuple[TokenInfo, ...] = ()


class Finished(Struct, frozen=True, kw_only=True, tag="finished"):
    """A choice is complete. The request is over when all `n` are."""

    id: int
    choice: int = 0
    reason: FinishReason
    usage: Usage = Usage()
    timings: Timings = Timings()
    seed: int | None = None
    prompt_digest: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: tuple[int, ...] = ()
    """The reply's token ids, to be given back as ChatMessage.tokens."""
    vocab: str = ""


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """This request failed; the worker lives. `message` and `hint` are sentences.

    Codes: `unknown_request`, `bad_request`, `not_ready`, `context_exceeded`, `template_failed`,
    `no_template`, `bad_grammar`, `unsupported`, `busy`, `decode_failed`, `internal`.
    """

    id: int
    code: str
    message: str
    hint: str = ""
    recoverable: bool = True


class Rendered(Struct, frozen=True, kw_only=True, tag="rendered"):
    """Answers Render."""

    id: int
    text: str
    tokens: tuple[int, ...]
    in_memory: int = 0


class Counted(Struct, frozen=True, kw_only=True, tag="counted"):
    """Answers Count. `messages` are the tokens of each message with its share of the template."""

    id: int
    tokens: int
    messages: tuple[int, ...] = ()


class Tokenized(Struct, frozen=True, kw_only=True, tag="tokenized"):
    """Answers Tokenize."""

    id: int
    tokens: tuple[int, ...]
    pieces: tuple[bytes, ...]


class Embedded(Struct, frozen=True, kw_only=True, tag="embedded"):
    """Answers Embed: one vector of float32, little endian, per text."""

    id: int
    vectors: tuple[bytes, ...]
    tokens: int = 0

    def floats(self) -> list[list[float]]:
        """The vectors as numbers."""
        return [[value for (value,) in iter_unpack("<f", vector)] for vector in self.vectors]


class Reranked(Struct, frozen=True, kw_only=True, tag="reranked"):
    """Answers Rerank: one score per document, in the order given."""

    id: int
    scores: tuple[float, ...]
    tokens: int = 0


class Inspected(Struct, frozen=True, kw_only=True, tag="inspected"):
    """Answers Inspect: float32 values, little endian, of `shape`, and names for rows."""

    id: int
    shape: tuple[int, ...]
    values: bytes
    top: tuple[tuple[int, float], ...] = ()


class Pong(Struct, frozen=True, kw_only=True, tag="pong"):
    """Answers Ping. `step` counts turns of the inference loop: a client can see it move."""

    id: int
    step: int
    busy: bool


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """The request was carried out and has nothing else to say."""

    id: int


Event = (
    Welcome
    | WorkerStatus
    | Plan
    | Loading
    | Ready
    | LoadFailed
    | Queued
    | PromptProgress
    | Delta
    | Finished
    | Failed
    | Rendered
    | Counted
    | Tokenized
    | Embedded
    | Reranked
    | Inspected
    | Pong
    | Done
)
