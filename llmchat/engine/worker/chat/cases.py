"""Templates whose replies are not written as their history shows them, told by a piece of source.

Owns what the probe cannot see by rendering: a table from words of a template's source to what its
model writes around thinking and calls. The forms are those of llama.cpp's own tests
(tests/test-chat.cpp) and of the models' cards. Refuses to render; `probe.py` applies it last.
"""

from typing import Any, Final, NamedTuple

_DEEPSEEK_CALLS: Final = (
    "<\uff5ctool\u2581calls\u2581begin\uff5c>",
    "<\uff5ctool\u2581calls\u2581end\uff5c>",
)


class Case(NamedTuple):
    """`fields` of `Markers` for a template whose source holds all of `words`."""

    words: tuple[str, ...]
    fields: dict[str, Any]


CALLS: Final = (
    (_DEEPSEEK_CALLS[0], *_DEEPSEEK_CALLS),
    ("<|tool_call_start|>", "<|tool_call_start|>", "<|tool_call_end|>"),
    ("<|tool_call>", "<|tool_call>", "<tool_call|>"),
    ("<|START_ACTION|>", "<|START_ACTION|>", "<|END_ACTION|>"),
    ("<|tool_call|>", "<|tool_call|>", ""),
    ("[TOOL_CALLS]", "[TOOL_CALLS]", ""),
    ("<TOOLCALL>", "<TOOLCALL>", "</TOOLCALL>"),
    ("<tool_call>", "<tool_call>", "</tool_call>"),
    # LFM2's templates list tools and leave out how they are called.
    ("<|tool_list_start|>", "<|tool_call_start|>", "<|tool_call_end|>"),
    ('"List of tools: ["', "<|tool_call_start|>", "<|tool_call_end|>"),
)
"""Words of a source, start and end of a call: for templates that write no call at all."""

CASES: Final = (
    Case(  # gpt-oss
        ("<|channel|>analysis<|message|>",),
        {
            "family": "harmony",
            "thinking": "always",
            "thinking_start": "<|channel|>analysis<|message|>",
            "thinking_end": "<|end|>",
            "text_start": "<|start|>assistant<|channel|>final<|message|>",
            "text_alone": "<|channel|>final<|message|>",
        },
    ),
    Case(  # Muse
        ("<atem:function_calls>", "to=self"),
        {
            "family": "muse",
            "thinking": "always",
            "thinking_start": " to=self<|message|>",
            "thinking_end": "<|eom|>",
            "text_start": "<|start|>assistant to=user<|message|>",
            "text_alone": " to=user<|message|>",
        },
    ),
    Case(  # Functionary 3.2: every part of a reply begins with its recipient's name on a line
        (">>>${recipient}",),
        {"family": "functionary", "text_alone": "all\n"},
    ),
    Case(  # Gemma 4; whether it thinks was seen by rendering
        ("<|channel>thought",),
        {"thinking_start": "<|channel>thought\n", "thinking_end": "\n<channel|>", "text_start": ""},
    ),
    Case(  # Kimi K3
        ("'<|open|>' + tag",),
        {
            "thinking_start": "<|open|>think<|sep|>",
            "thinking_end": "<|close|>think<|sep|>",
            "text_start": "<|open|>response<|sep|>",
            "text_alone": "<|open|>response<|sep|>",
            "tool_start": "<|open|>tools<|sep|>",
            "tool_end": "<|close|>tools<|sep|>",
            "skipped": (
                "<|open|>response<|sep|>",
                "<|close|>response<|sep|>",
                "<|close|>message<|sep|>",
            ),
        },
    ),
    Case(  # Solar Open
        ("<|begin|>assistant<|think|>",),
        {
            "thinking": "always",
            "thinking_start": "<|think|>",
            "thinking_end": "<|end|>",
            "text_start": "<|begin|>assistant<|content|>",
            "text_alone": "<|content|>",
            "skipped": ("<|begin|>assistant", "<|content|>", "<|end|>"),
        },
    ),
    Case(  # Apriel 1.6: the prompt's last words begin the thinking
        ("[BEGIN FINAL RESPONSE]", "Here are my reasoning steps:"),
        {
            "thinking": "always",
            "thinking_start": "Here are my reasoning steps:\n",
            "thinking_end": "\n[BEGIN FINAL RESPONSE]\n",
            "text_start": "",
        },
    ),
    Case(  # Command R+
        ("Action:\\n```json",),
        {"tool_start": "Action:\n```json", "tool_end": "```"},
    ),
    Case(  # Command R7B, Command A
        ("<|START_RESPONSE|>",),
        {"skipped": ("<|START_RESPONSE|>", "<|END_RESPONSE|>")},
    ),
    Case(("<|START_TEXT|>",), {"skipped": ("<|START_TEXT|>", "<|END_TEXT|>")}),
    Case(  # GigaChat 3
        ("'role': 'function call'", "<|role_sep|>"),
        {"tool_start": "<|message_sep|>\n\nfunction call<|role_sep|>", "tool_end": ""},
    ),
    Case(  # MiniMax M3
        ("]<]minimax[>[",),
        {
            "tool_start": "]<]minimax[>[<tool_call>",
            "tool_end": "]<]minimax[>[</tool_call>",
        },
    ),
    Case(("functools[",), {"tools": True, "tool_start": "functools"}),
)
"""Applied in order over what the probe found."""
