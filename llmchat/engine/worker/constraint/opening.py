"""A request's rules, brought to where its reply begins: past thinking headers and forced words."""

from collections.abc import Sequence

from llmchat.engine.protocol import Generate, Messages
from llmchat.engine.worker.chat.segments import Segment
from llmchat.engine.worker.chat.template import ChatTemplate
from llmchat.engine.worker.constraint.faults import bad
from llmchat.engine.worker.constraint.rule import Rule
from llmchat.engine.worker.constraint.thinking import AfterThinking, Way
from llmchat.engine.worker.vocab import Vocab


def place_rules(
    rules: Sequence[Rule],
    request: Generate,
    forced: Sequence[int],
    segments: Sequence[Segment],
    *,
    vocab: Vocab,
    template: ChatTemplate,
) -> list[Rule]:
    """One rule for each choice. When it fails, the rules are closed.

    Raises:
        GenerationFailed: the constraint refuses the words that the reply must begin with.
    """
    placed: list[Rule] = list(rules)
    begun = list(forced)
    if isinstance(request.prompt, Messages):
        way = find_way(request.prompt, segments, vocab, template)
        placed = [AfterThinking(vocab, rule, way) for rule in rules]
        begun = vocab.tokenize_inside(_prefill(request.prompt, segments)) + begun
    if not all(rule.force(token) for rule in placed for token in begun):
        for rule in placed:
            rule.close()
        raise bad("grammar_refuses_forced")
    return placed


def find_way(
    prompt: Messages, segments: Sequence[Segment], vocab: Vocab, template: ChatTemplate
) -> Way:
    """What lies between this prompt and its answer, by the template's markers."""
    markers = template.markers
    opening = "".join(segment.text for segment in segments if segment.message is None)
    start, end = markers.thinking_start.strip(), markers.thinking_end.strip()
    if prompt.continue_final or not end:
        start = ""  # the answer has begun, or there is no thinking
    wanted = prompt.template_kwargs.get("enable_thinking") is not False
    alone = "" if prompt.continue_final else markers.text_alone

    def tokens(text: str) -> tuple[int, ...]:
        return tuple(vocab.tokenize(text, special=True)) if text.strip() else ()

    return Way(
        inside=bool(start) and markers.inside_thinking(opening),
        start=tokens(start) if wanted else (),
        end=end,
        end_tokens=tokens(end),
        after=tokens(markers.text_start),
        alone=tokens(alone),
    )


def _prefill(prompt: Messages, segments: Sequence[Segment]) -> str:
    """What a reply that goes on says already."""
    if not prompt.continue_final:
        return ""
    last = len(prompt.messages) - 1
    return "".join(s.text for s in segments if s.message == last and not s.special)
