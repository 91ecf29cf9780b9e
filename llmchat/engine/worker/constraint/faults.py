"""Why a constraint cannot be used, in one sentence."""

import re
from typing import Final

from llmchat.errors import GenerationFailed
from llmchat.text import say
from llmchat.text.cleaning import clean_line

LONGEST_REASON: Final = 200
_PLACE: Final = re.compile(r"^(?:at )?(\d+)\((\d+)\): ")
_UNKNOWN: Final = re.compile(r"Unimplemented keys: \[(.*?)\]")
_DETAILS: Final = re.compile(r" \(in \w+\)|; consider making .*| Default retriever .*")


def bad(reason: str, **values: object) -> GenerationFailed:
    """The error for a constraint; `reason` is a key of the catalogue under `engine`."""
    return GenerationFailed("engine.bad_grammar", reason=say(f"engine.{reason}", **values))


def llguidance_fault(error: str, *, places: bool) -> GenerationFailed:
    """The same for llguidance's own words. `places`: the user wrote the lines it counts (Lark)."""
    head = error.partition("<state>")[0].strip()
    if head.startswith("NoExtension"):
        return bad("grammar_allows_nothing")
    if "Parser Error: Current row" in head or "too complex" in head:
        return bad("grammar_complex")
    if head.startswith("oneOf constraints"):
        return bad("grammar_one_of")
    if unknown := _UNKNOWN.match(head):
        keys = clean_line(unknown[1].replace('"', "`"), LONGEST_REASON)
        return bad("grammar_keys", keys=keys)
    found = _PLACE.match(head)
    lines = head[found.end() :].splitlines() if found else head.splitlines()
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    words = _DETAILS.sub("", said[0] if said else (lines or [""])[0]).strip().rstrip(".:")
    reason = clean_line(words, LONGEST_REASON) or say("engine.grammar_refused")
    if found and places:
        line, column = found.groups()
        reason = say("engine.grammar_at", reason=reason, line=line, column=column)
    return GenerationFailed("engine.bad_grammar", reason=reason)
