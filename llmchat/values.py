"""The words that every room shares: frozen values, no behaviour, no input or output.

Owns what crosses more than one wall: sampling and load settings, models, conversations, messages.
Refuses the wire's own requests and events (`engine/protocol.py`), rows (`store/`) and anything
that a face draws. Names are llama.cpp's for the engine and OpenAI's for a chat.
"""

from typing import Any, Literal

from msgspec import Struct, field

Role = Literal["system", "user", "assistant", "tool"]
MessageStatus = Literal["complete", "streaming", "interrupted", "failed"]
FinishReason = Literal["stop", "length", "context", "cancelled", "tool_calls"]
PartKind = Literal["text", "thinking", "tool_call", "tool_result", "image", "file"]
ATTACHED: frozenset[PartKind] = frozenset({"file", "image"})
"""Parts that were attached to a message's words."""
ContextPolicy = Literal["stop", "drop-middle", "rolling", "ask"]
"""What happens when a conversation does not fit into the context: `core/context.py`."""
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


class Sampling(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How the next token is chosen. None = unset: the model's metadata decides, then llama.cpp.

    Field names are llama.cpp's command-line names with underscores.
    """

    temperature: float | None = None
    """0 = always the likeliest token."""
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    mirostat: int | None = None
    """0 off, 1 Mirostat, 2 Mirostat 2.0."""
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    adaptive_target: float | None = None
    """For the sampler `adaptive_p`: choose tokens of about this probability; negative = off."""
    adaptive_decay: float | None = None
    samplers: tuple[str, ...] | None = None
    """The order of the chain by llama.cpp's names, when not its default."""
    seed: int | None = None
    """Unset: the worker draws one, and reports it."""
    logit_bias: dict[int, float] | None = None


LLAMA_CPP_SAMPLING = Sampling(
    temperature=0.8,
    top_k=40,
    top_p=0.95,
    min_p=0.05,
    typical_p=1.0,
    top_n_sigma=-1.0,
    xtc_probability=0.0,
    xtc_threshold=0.1,
    dynatemp_range=0.0,
    dynatemp_exponent=1.0,
    repeat_last_n=64,
    repeat_penalty=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    dry_multiplier=0.0,
    dry_base=1.75,
    dry_allowed_length=2,
    dry_penalty_last_n=64,
    dry_sequence_breakers=("\n", ":", '"', "*"),
    mirostat=0,
    mirostat_tau=5.0,
    mirostat_eta=0.1,
    adaptive_target=-1.0,
    adaptive_decay=0.9,
)
"""What holds where neither a user nor a model says: `common_params_sampling` of llama.cpp's
common/common.h."""


class Wants(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a client wants of a loaded model. None = any; `n_ctx` is a minimum, the rest exact."""

    n_ctx: int | None = None
    """Tokens that one sequence may hold."""
    n_gpu_layers: int | Literal["auto", "all"] | None = None
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    flash_attn: Literal["auto", "on", "off"] | None = None
    n_threads: int | None = None
    n_batch: int | None = None
    n_ubatch: int | None = None
    swa_full: bool | None = None
    n_cpu_moe: int | None = None
    """Layers whose experts stay on the CPU."""
    devices: tuple[str, ...] | None = None
    main_gpu: int | None = None
    split_mode: Literal["none", "layer", "row"] | None = None
    tensor_split: tuple[float, ...] | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None
    check_tensors: bool | None = None
    """Look at every weight while loading: one that is no number ends the load."""
    lora: tuple[str, ...] | None = None
    """Adapter files to load beside the weights, absolute; how much each counts is a reply's."""
    control_vectors: tuple[str, ...] | None = None


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts of one reply. `prompt_tokens` is the sum of the three that follow it."""

    prompt_tokens: int = 0
    from_memory: int = 0
    from_disk: int = 0
    read: int = 0
    completion_tokens: int = 0


class Timings(Struct, frozen=True, kw_only=True):
    """Seconds as the worker measured them."""

    queued: float = 0.0
    prompt: float = 0.0
    first_token: float = 0.0
    """From the request's arrival to its first token."""
    generation: float = 0.0
    """From the first token to the last: `completion_tokens - 1` decodes."""


class ModelFile(Struct, frozen=True, kw_only=True):
    """A runnable model on this disk: what an engine needs to open it."""

    name: str
    """What the user retypes: `owner/repo:Q4_K_M`, an alias, or a path."""
    path: str
    """Absolute path of the file, or of the first shard."""
    identity: str
    """64 hex digits: the content's sha256 where a store names it (see docs/architecture.md)."""
    size: int
    """Bytes over all shards and the projector."""
    shards: tuple[str, ...] = ()
    """All shard paths in order, when there is more than one."""
    projector: str | None = None
    source: str = "file"
    """The store it lies in: `huggingface`, `lmstudio`, `ollama`, `llama.cpp`, `folder`, `file`."""


class ToolCall(Struct, frozen=True, kw_only=True):
    """A call that a model asks for; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class Part(Struct, frozen=True, kw_only=True):
    """One piece of a message's content, as the model or the user gave it: raw, never cleaned."""

    kind: PartKind
    text: str = ""
    blob: str | None = None
    """sha256 of attached bytes, for images and files."""
    meta: dict[str, str] = field(default_factory=dict)


class Origin(Struct, frozen=True, kw_only=True):
    """A setting's value and the layer that set it, e.g. `conversation`, `config.toml`, `model`."""

    value: object
    source: str


class LeftOut(Struct, frozen=True, kw_only=True):
    """What a prompt went without so that the rest fitted into the context."""

    messages: tuple[str, ...]
    tokens: int
    policy: str


class Continued(Struct, frozen=True, kw_only=True):
    """Where a reply was gone on from: what of it was there before, and was not generated here."""

    characters: int
    """Of its thinking and text, in order."""
    tokens: int = 0
    """Of its token ids; 0 where they were not known."""


class Generation(Struct, frozen=True, kw_only=True):
    """How a reply came to be: enough to run it again and compare."""

    model: str
    identity: str = ""
    settings: dict[str, Origin] = field(default_factory=dict)
    seed: int | None = None
    template_digest: str = ""
    prompt_digest: str = ""
    build: str = ""
    usage: Usage = Usage()
    timings: Timings = Timings()
    finish: FinishReason | None = None
    left_out: LeftOut | None = None
    continued: Continued | None = None


class Message(Struct, frozen=True, kw_only=True):
    """A node of a conversation's tree."""

    id: str
    conversation: str
    parent: str | None
    role: Role
    parts: tuple[Part, ...]
    status: MessageStatus = "complete"
    seq: int = 0
    """Order of creation within the store; the clock never orders."""
    created: float = 0.0
    generation: Generation | None = None
    error: str | None = None
    """The sentence shown with a failed or interrupted reply."""
    siblings: tuple[str, ...] = ()
    """Ids of every version at this place, this one included, in order of `seq`."""

    @property
    def text(self) -> str:
        """The visible words, without thinking and tools."""
        return "".join(part.text for part in self.parts if part.kind == "text")

    @property
    def files(self) -> tuple[Part, ...]:
        """What is attached to the words."""
        return tuple(part for part in self.parts if part.kind in ATTACHED)

    @property
    def thinking(self) -> str:
        """What the model thought before it answered."""
        return "".join(part.text for part in self.parts if part.kind == "thinking")


class Constraint(Struct, frozen=True, kw_only=True):
    """What a reply must obey: a JSON schema, a regex, or a grammar (Lark's form or llama.cpp's)."""

    kind: Literal["json_schema", "regex", "lark", "gbnf"]
    text: str


class ChatSettings(
    Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What one layer (a message, a conversation, a persona, a file) sets for a chat. None = unset.

    Layers are merged field by field in `core/settings.py`; the first that sets a field wins.
    """

    model: str | None = None
    persona: str | None = None
    """The name of a file of settings that lies below the conversation's own."""
    preset: str | None = None
    """The name of a file of sampling and load settings that lies below the persona."""
    system: str | None = None
    sampling: Sampling = Sampling()
    wants: Wants = Wants()
    thinking: bool | Literal["low", "medium", "high"] | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    stop_tokens: tuple[int, ...] | None = None
    ignore_eos: bool | None = None
    """Go on past the model's own end, up to `max_tokens`: for measuring (`run --ignore-eos`)."""
    tools: tuple[dict[str, Any], ...] | None = None
    """Tools that a reply may call, OpenAI-shaped; who asked runs them."""
    constraint: Constraint | None = None
    """Belongs to one message: flags and `once` set it, no file does."""
    context_policy: ContextPolicy | None = None
    lora: tuple[str, ...] | None = None
    """LoRA adapters, each `FILE` or `FILE:SCALE`."""
    control_vectors: tuple[str, ...] | None = None
    """Control vectors, each `FILE` or `FILE:SCALE`."""
    speculation: Literal["off", "ngram"] | None = None
    """`ngram`: several tokens a step where a reply repeats what was said."""
    keep_alive: float | None = None
    """Seconds; 0 = leave with the last client, -1 = never leave."""


NOTHING_SET = ChatSettings()
"""A layer that sets nothing."""


class Conversation(Struct, frozen=True, kw_only=True):
    """A tree of messages and what is set for all of it."""

    id: str
    title: str
    created: float
    updated: float
    settings: ChatSettings = ChatSettings()
    active_leaf: str | None = None
    source: str = "tui"
    """Who began it: `tui`, `cli`, `import`."""
    pinned: bool = False
    folder: str | None = None
    deleted: float | None = None


class SavedMessage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message as a file carries it: everything that the store knows of it."""

    id: str
    parent: str | None = None
    role: Role
    parts: tuple[Part, ...] = ()
    status: MessageStatus = "complete"
    created: float = 0.0
    generation: Generation | None = None
    error: str | None = None
    deleted: str | None = None
    """Id of the message whose deletion took this one along; None: it is not deleted."""
    vocab: str = ""
    tokens: tuple[int, ...] = ()
    """A reply's token ids, with the hash of their vocabulary."""


class SavedConversation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole tree as a file carries it. Messages are in order of creation, parents first."""

    id: str
    title: str = ""
    created: float = 0.0
    updated: float = 0.0
    settings: ChatSettings = ChatSettings()
    active_leaf: str | None = None
    source: str = "import"
    pinned: bool = False
    folder: str | None = None
    deleted: float | None = None
    messages: tuple[SavedMessage, ...] = ()
    blobs: dict[str, bytes] = field(default_factory=dict)
    """Attached bytes by their sha256, as far as a file brings them along; base64 in JSON."""
