"""From a model file and wants to something that computes: plan, weights, context, facts.

Owns the order of a load and what is told about it. Refuses numbers of its own: where things lie is
`fit.py`'s, what llama.cpp gets is `loader.py`'s.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Final

from llama_cpp import llama_cpp as lib

from llmchat.engine.backend import Verdict
from llmchat.engine.disk import Circumstances
from llmchat.engine.protocol import (
    Facts,
    Loading,
    Messages,
    Plan,
    Prompt,
    TemplateFacts,
)
from llmchat.engine.settling import settle
from llmchat.engine.worker import circumstances, fit
from llmchat.engine.worker.adapters import Adapters
from llmchat.engine.worker.bounds import bounded
from llmchat.engine.worker.capi import Context, Pointer, model_description, model_text
from llmchat.engine.worker.chat.parse import ReplyParser
from llmchat.engine.worker.chat.template import ChatTemplate, Segment
from llmchat.engine.worker.devices import find_devices
from llmchat.engine.worker.loader import Loaded, open_context, open_model
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.memory import Kind, Parked, SequenceTable, budget
from llmchat.engine.worker.ram import free_ram
from llmchat.engine.worker.reply import Parser, PlainParser
from llmchat.engine.worker.sampling import model_sampling
from llmchat.engine.worker.vocab import Vocab
from llmchat.errors import EngineError, LlmchatError, ModelFileError
from llmchat.gguf import check_loadable
from llmchat.values import ModelFile, Wants

_MROPE: Final = (lib.LLAMA_ROPE_TYPE_MROPE, lib.LLAMA_ROPE_TYPE_IMROPE)


class Opened:
    """Everything that the loop needs of a loaded model."""

    def __init__(
        self,
        loaded: Loaded,
        facts: Facts,
        table: SequenceTable,
        template: ChatTemplate,
        circumstances: Circumstances,
        adapters: Adapters,
    ) -> None:
        self.loaded = loaded
        self.adapters = adapters
        self.circumstances = circumstances
        """What its KV states belong to."""
        self.facts = facts
        self.table = table
        self.template = template
        self.markers = frozenset(word.encode() for word in template.markers.tokens)

    def new_parser(self, prompt: Prompt, segments: Sequence[Segment]) -> Parser:
        """A parser for one reply; raw prompts get text as it is."""
        if not isinstance(prompt, Messages):
            return PlainParser()
        tools = prompt.tools
        return ReplyParser(self.template, prompt=segments, tools=bool(tools), definitions=tools)


def open_everything(
    model: ModelFile,
    wants: Wants,
    log: LogRing,
    *,
    progress: Callable[[Loading], None],
    proceed: Callable[[Plan], Verdict],
    stopping: Callable[[], bool],
) -> Opened:
    """Plan, ask, load, warm up.

    Raises:
        EngineError: the header's or llama.cpp's reason, or that it was told to stop.
    """
    wants = bounded(wants)
    progress(Loading(fraction=0.0, stage="plan"))
    try:
        # Some headers end the process inside llama.cpp, where nothing can be said about them.
        check_loadable(model.path)
    except ModelFileError as error:
        values: dict[str, Any] = dict(error.values)
        raise EngineError(error.key, **values) from error
    paths = model.shards or (model.path,)
    decision = agreed(paths, wants, log, proceed)
    report = Throttle(progress, stopping)
    pointer = open_model(paths, decision.model, log, report)
    adapters = Adapters()
    try:
        adapters.load(pointer, wants.lora or (), wants.control_vectors or (), log)
        progress(Loading(fraction=1.0, stage="context"))
        context_pointer = open_context(pointer, decision.context, log)
    except EngineError:
        lib.llama_model_free(pointer)
        raise
    context = Context(
        context_pointer, int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(pointer))),
        decision.context.n_batch,
    )  # fmt: skip
    loaded = Loaded(pointer, context, Vocab(pointer))
    try:
        progress(Loading(fraction=1.0, stage="warmup"))
        loaded.warm_up()
        template = _template(pointer, loaded.vocab)
        _ = (
            loaded.vocab.ends,
            loaded.vocab.controls,
        )  # scans of the whole vocabulary: now, not later
        facts = _facts(model, loaded, decision, template)
    except LlmchatError:
        loaded.close()
        raise
    kind = fit.memory_kind(pointer, decision.context.swa_full, cuts=loaded.cuts)
    belongs_to = circumstances.of(
        pointer,
        context,
        decision.context,
        identity=model.identity,
        build=facts.build,
        n_gpu_layers=decision.model.n_gpu_layers,
    )
    return Opened(loaded, facts, _table(context, kind), template, belongs_to, adapters)


def _table(context: Context, kind: Kind) -> SequenceTable:
    most = budget(free_ram())
    return SequenceTable(
        context,
        context.n_seq_max,
        kind,
        n_cells=context.n_ctx,
        shelves=[Parked(most, kind)],
        checkpoint_bytes=most // 2,
    )


def agreed(
    paths: Sequence[str], wants: Wants, log: LogRing, proceed: Callable[[Plan], Verdict]
) -> fit.Decision:
    """A placement that whoever waits for it agrees to; planned anew after others made room.

    Raises:
        EngineError: nobody agreed, or it cannot fit at all.
    """
    while True:
        decision = fit.decide(paths, wants, log)
        verdict = proceed(
            Plan(
                devices=decision.devices,
                needs=decision.needs,
                short=decision.short,
                placement=decision.placement,
            )
        )
        if verdict is Verdict.STOP:
            raise EngineError("engine.load_stopped", recoverable=True)
        if verdict is Verdict.GO and decision.refusal is not None:
            raise decision.refusal
        if verdict is Verdict.GO:
            return decision
        settle(_free, clock=time.monotonic, wait=time.sleep)


def _free() -> dict[str, int]:
    return {found.device.name: found.device.free for found in find_devices()}


class Throttle:
    """Turns llama.cpp's hundreds of progress calls into at most a hundred events."""

    def __init__(self, progress: Callable[[Loading], None], stopping: Callable[[], bool]) -> None:
        self._progress = progress
        self._stopping = stopping
        self._last = -1.0

    def __call__(self, fraction: float) -> bool:
        """Tell, if it is worth it. False: give up."""
        if fraction - self._last >= 0.01:
            self._last = fraction
            self._progress(Loading(fraction=min(1.0, fraction), stage="weights"))
        return not self._stopping()


def _template(model: Pointer, vocab: Vocab) -> ChatTemplate:
    """The model's default template; without one, the plain form."""
    source = lib.llama_model_chat_template(model, None)
    text = source.decode("utf-8", "replace") if source else ""
    bos = vocab.text([vocab.bos]) if vocab.bos >= 0 else ""
    eos = vocab.text([vocab.eos]) if vocab.eos >= 0 else ""
    return ChatTemplate(text, bos=bos, eos=eos)


def _facts(
    model: ModelFile, loaded: Loaded, decision: fit.Decision, template: ChatTemplate
) -> Facts:
    pointer, context = loaded.model, loaded.context
    found = template.facts
    return Facts(
        model=model.name,
        identity=model.identity,
        architecture=model_text(pointer, "general.architecture") or "",
        description=model_description(pointer),
        n_ctx=min(decision.n_ctx, context.n_ctx),
        n_ctx_train=int(lib.llama_model_n_ctx_train(pointer)),
        pool=context.n_ctx,
        n_seq_max=context.n_seq_max,
        n_vocab=loaded.vocab.size,
        vocab=loaded.vocab.digest,
        capabilities=_capabilities(pointer, found),
        template=found,
        placement=decision.placement,
        memory=decision.memory,
        sampling=model_sampling(pointer),
        build=build(),
        n_threads=decision.context.n_threads,
    )


def _capabilities(model: Pointer, template: TemplateFacts) -> tuple[str, ...]:
    known = {
        "chat": template.present,
        "thinking": template.thinking != "no",
        "tools": template.tools,
        "swa": lib.llama_model_n_swa(model) > 0,
        "recurrent": bool(lib.llama_model_is_recurrent(model)),
        "hybrid": bool(lib.llama_model_is_hybrid(model)),
        "mrope": lib.llama_model_rope_type(model) in _MROPE,
    }
    return tuple(name for name, has in known.items() if has)


def build() -> str:
    """The binding's version and a hash of what llama.cpp was compiled for."""
    system = hashlib.sha256(lib.llama_print_system_info()).hexdigest()[:8]
    return f"llama-cpp-python {version('llama-cpp-python')} {system}"
