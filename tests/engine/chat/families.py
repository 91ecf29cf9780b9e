"""What is known about the template families in `templates/`: the expectations of the tests."""

from pathlib import Path
from typing import NamedTuple

from llmchat.engine.worker.chat.template import ChatTemplate

FOLDER = Path(__file__).with_name("templates")


class Family(NamedTuple):
    thinking: str
    thinking_start: str = ""
    thinking_end: str = ""
    tool_start: str = ""
    tool_end: str = ""
    system: bool = True


THINK = ("<think>", "</think>")
HERMES = ("<tool_call>", "</tool_call>")
DEEPSEEK = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")  # noqa: RUF001

FAMILIES = {
    "deepseek-r1": Family("always", *THINK, *DEEPSEEK),
    "deepseek-v3.1": Family("toggle", *THINK, *DEEPSEEK),
    "gemma2": Family("no", system=False),
    "gemma4": Family("toggle", "<|channel>thought", "<channel|>", "<|tool_call>", "<tool_call|>"),
    "glm4.6": Family("toggle", *THINK, *HERMES),
    "gpt-oss": Family("always", "<|channel|>analysis<|message|>", "<|end|>"),
    "granite4": Family("no", "", "", *HERMES),
    "kimi-k2": Family("no", "", "", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    "lfm2": Family("no", "", "", "<|tool_call_start|>", "<|tool_call_end|>"),
    "llama3": Family("no"),
    "ministral3": Family("always", "[THINK]", "[/THINK]", "[TOOL_CALLS]"),
    "mistral": Family("no", "", "", "[TOOL_CALLS]"),
    "phi3.5": Family("no"),
    "qwen2.5": Family("no", "", "", *HERMES),
    "qwen3": Family("toggle", *THINK, *HERMES),
    "qwen3-coder": Family("no", "", "", *HERMES),
    "smollm2": Family("no"),
    "smollm3": Family("toggle", *THINK),
}


def load(name: str) -> ChatTemplate:
    source = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    return ChatTemplate(source, bos="<s>", eos="</s>")
