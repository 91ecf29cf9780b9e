"""Short names for the templates that the tests ask for most."""

from functools import cache
from pathlib import Path

from llmchat.engine.worker.chat.template import ChatTemplate
from tests.engine.chat import bundled

BUNDLED = {
    "apertus": "Apertus-8B-Instruct",
    "deepseek-r1": "llama-cpp-deepseek-r1",
    "deepseek-v3.1": "deepseek-ai-DeepSeek-V3.1",
    "functionary": "meetkai-functionary-medium-v3.2",
    "gemma4": "google-gemma-4-31B-it",
    "gpt-oss": "openai-gpt-oss-120b",
    "kimi-k2": "moonshotai-Kimi-K2",
    "kimi-k3": "Kimi-K3",
    "llama3": "meta-llama-Llama-3.2-3B-Instruct",
    "minicpm5": "openbmb-MiniCPM5-1B",
    "mistral": "Mistral-Small-3.2-24B-Instruct-2506",
    "muse": "muse-glimmer",
    "qwen3": "Qwen-Qwen3-0.6B",
    "qwen3-coder": "Qwen3-Coder",
    "solar": "upstage-Solar-Open-100B",
}


@cache
def load(name: str) -> ChatTemplate:
    """A template by its short name or by llama.cpp's; `smollm2` is the starter model's."""
    if name == "smollm2":
        source = Path(__file__).with_name("templates") / "smollm2.jinja"
        return ChatTemplate(source.read_text(encoding="utf-8"), bos="<s>", eos="</s>")
    return bundled.load(BUNDLED.get(name, name))
