"""Loading a model that writes: its adapters, template, memory, and the facts that clients get.

Refuses the order of a load and what is told about it (`loading.py`).
"""

from collections.abc import Sequence
from typing import Final

from llama_cpp import llama_cpp as lib

from llmchat.engine.disk import Circumstances
from llmchat.engine.protocol import (
    Facts,
    Messages,
    Prompt,
    TemplateFacts,
)
from llmchat.engine.worker import circumstances, fit
from llmchat.engine.worker.adapters import Adapters
from llmchat.engine.worker.capi import Context, Pointer, model_description, model_text
from llmchat.engine.worker.chat.parse import ReplyParser
from llmchat.engine.worker.chat.segments import Segment
from llmchat.engine.worker.chat.template import ChatTemplate
from llmchat.engine.worker.fit import Decision
from llmchat.engine.worker.loader import Loaded
from llmchat.engine.worker.loading import Audience, build, load
from llmchat.engine.worker.log import LogRing
from llmchat.engine.worker.memory import Kind, Parked, SequenceTable, budget
from llmchat.engine.worker.ram import free_ram
from llmchat.engine.worker.reply_text import Parser, PlainParser
from llmchat.engine.worker.sampling import model_sampling
from llmchat.engine.worker.vocab import Vocab
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


def open_everything(model: ModelFile, wants: Wants, log: LogRing, audience: Audience) -> Opened:
    """Load a model that writes, with its adapters.

    Raises:
        EngineError: the header's or llama.cpp's reason, or that it was told to stop.
    """
    adapters = Adapters()

    def prepare(pointer: Pointer) -> None:
        adapters.load(pointer, wants.lora or (), wants.control_vectors or (), log)

    def finish(loaded: Loaded, decision: Decision) -> Opened:
        params = decision.context
        template = _template(loaded.model, loaded.vocab)
        # Scans of the whole vocabulary: now, not in somebody's reply.
        _ = loaded.vocab.ends, loaded.vocab.control_texts
        facts = _facts(model, loaded, decision, template)
        kind = fit.memory_kind(loaded.model, params.swa_full, cuts=loaded.cuts)
        belongs_to = circumstances.of(
            loaded.model,
            loaded.context,
            params,
            identity=model.identity,
            build=facts.build,
            n_gpu_layers=decision.model.n_gpu_layers,
        )
        table = _table(loaded.context, kind)
        return Opened(loaded, facts, table, template, belongs_to, adapters)

    return load(model, wants, log, audience, prepare=prepare, finish=finish)


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


def _template(model: Pointer, vocab: Vocab) -> ChatTemplate:
    """The model's default template; without one, the plain form."""
    source = lib.llama_model_chat_template(model, None)
    text = source.decode("utf-8", "replace") if source else ""
    bos = vocab.text([vocab.bos]) if vocab.bos >= 0 else ""
    eos = vocab.text([vocab.eos]) if vocab.eos >= 0 else ""
    return ChatTemplate(text, bos=bos, eos=eos)


def _facts(model: ModelFile, loaded: Loaded, decision: Decision, template: ChatTemplate) -> Facts:
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
