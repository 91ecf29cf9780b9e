"""A constraint is compiled once in a process of its own, before the worker trusts itself with it.

`python -m llmchat.engine.worker.constraint.trial` reads `[kind, text]` as JSON. Ten thousand rules
in a chain overflow llguidance's stack, a large multipleOf keeps it busy for hours: such a grammar
ends this process instead of the worker. Owns the limits of that process, and the form in which
llguidance gets a constraint. Refuses to report: whether it survived is all that counts.
"""

import json
import resource
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Final

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

SECONDS: Final = 3
"""Of CPU time; the worst that is let through takes less than one."""
ADDRESSES: Final = 4 << 30
"""Bytes of address space."""
STACK: Final = 2 << 20
"""Bytes of stack: a quarter of what the worker's threads have, which free a grammar too."""
MAX_LEXER_STATES: Final = 50_000
"""llguidance's own limits bound the rest; a lexer state takes 2 kB."""
WHITE_SPACE: Final = r"( |\n{1,2}[ \t]{0,20})"
"""Between a JSON document's parts, as llama.cpp's own converter has it (json_schema_to_grammar): a
small model that may write any number of spaces writes nothing else."""
_BOOLEANS: Final = {"true": "{}", "false": '{"enum": []}'}
"""Schemas that are one word, in a form that takes options."""


def grammar(kind: str, text: str) -> str:
    """A constraint in the form that llguidance takes.

    Raises:
        ValueError: a schema that is no JSON, with llguidance's reason.
    """
    if kind == "json_schema":
        text = _BOOLEANS.get(text.strip(), text)
        return LLMatcher.grammar_from_json_schema(
            text, defaults={"whitespace_pattern": WHITE_SPACE}
        )
    if kind == "regex":
        return LLMatcher.grammar_from_regex(text)
    return LLMatcher.grammar_from_lark(text)


def limits() -> LLParserLimits:
    """What llguidance may use."""
    return LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)


def start(kind: str, text: str) -> "subprocess.Popen[bytes]":
    """Begin a trial; it ends by itself, by a signal if the grammar is one that kills."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it is gone already: `wait` says how
        process.stdin.write(json.dumps([kind, text]).encode())
        process.stdin.close()
    return process


class _Bytes:
    """The smallest tokenizer: a token for each byte, and an end."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"\xff<end>")
    special_token_ids = (256,)

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def _try() -> None:
    kind, text = json.loads(sys.stdin.buffer.read())
    tokenizer = LLTokenizer(TokenizerWrapper(_Bytes()))
    matcher = LLMatcher(tokenizer, grammar(kind, text), log_level=0, limits=limits())
    if not matcher.is_error():
        matcher.deep_copy().compute_bitmask()


def main() -> None:
    """Try what stdin has, under limits."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    threading.stack_size(STACK)
    thread = threading.Thread(target=_try)
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
