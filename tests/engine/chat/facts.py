# ruff: noqa: RUF001 - DeepSeek's and Hunyuan's markers are written with wide bars
"""What is known of every template that llama.cpp bundles: the expectations of the tests.

Facts, no texts: which markers a model writes around thinking and calls, what closes a user's
message, whether a system message is kept. Where a template's history does not show how its model
writes, the source is llama.cpp's own tests/test-chat.cpp.
"""

from typing import NamedTuple


class Facts(NamedTuple):
    thinking: str
    thinking_start: str
    thinking_end: str
    tool_start: str
    tool_end: str
    message_end: str
    """The first characters of what follows a user's words, white space aside."""
    system: bool = True
    tools: bool = True
    bare_json: bool = False
    family: str = ""


NONE = ("", "")
THINK = ("<think>", "</think>")
HERMES = ("<tool_call>", "</tool_call>")
DEEPSEEK = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
MISTRAL = ("[TOOL_CALLS]", "")
KIMI = ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")
LFM = ("<|tool_call_start|>", "<|tool_call_end|>")

FACTS = {
    "Apertus-8B-Instruct": Facts(
        "toggle",
        "<|inner_prefix|>",
        "<|inner_suffix|>",
        "<|tools_prefix|>",
        "<|tools_suffix|>",
        "<|user_end|>",
    ),
    "Apriel-1.6-15b-Thinker-fixed": Facts(
        "always",
        "Here are my reasoning steps:",
        "[BEGIN FINAL RESPONSE]",
        "<tool_calls>",
        "</tool_calls>",
        "",
    ),
    "Bielik-11B-v3.0-Instruct": Facts("toggle", *THINK, *HERMES, "<|im_end|>"),
    "ByteDance-Seed-OSS": Facts(
        "always",
        "<seed:think>",
        "</seed:think>",
        "<seed:tool_call>",
        "</seed:tool_call>",
        "<seed:eos>",
    ),
    "Cohere2MoE": Facts(
        "always",
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        "<|START_ACTION|>",
        "<|END_ACTION|>",
        "<|END_TEXT|><|END_OF_TUR",
    ),
    "CohereForAI-c4ai-command-r-plus-tool_use": Facts(
        "no", *NONE, "Action:\n```json", "```", "<|END_OF_TURN_TOKEN|><|S"
    ),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": Facts(
        "toggle",
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        "<|START_ACTION|>",
        "<|END_ACTION|>",
        "<|END_OF_TURN_TOKEN|><|S",
    ),
    "GLM-4.6": Facts("toggle", *THINK, *HERMES, ""),
    "GLM-4.7-Flash": Facts("toggle", *THINK, *HERMES, ""),
    "GigaChat3-10B-A1.8B": Facts(
        "no", *NONE, "<|message_sep|>\n\nfunction call<|role_sep|>", "", "<|message_sep|>"
    ),
    "GigaChat3.1-10B-A1.8B": Facts("no", *NONE, "<|function_call|>", "", "<|message_sep|>"),
    "HuggingFaceTB-SmolLM3-3B": Facts("toggle", *THINK, *NONE, "<|im_end|>", tools=False),
    "Kimi-K2-Instruct": Facts("no", *NONE, *KIMI, "<|im_end|>"),
    "Kimi-K2-Thinking": Facts("always", *THINK, *KIMI, "<|im_end|>"),
    "Kimi-K3": Facts(
        "toggle",
        "<|open|>think<|sep|>",
        "<|close|>think<|sep|>",
        "<|open|>tools<|sep|>",
        "<|close|>tools<|sep|>",
        "<|close|>message<|sep|><",
    ),
    "LFM2-8B-A1B": Facts("no", *NONE, *LFM, "<|im_end|>"),
    "LFM2.5-8B-A1B": Facts("always", *THINK, *LFM, "<|im_end|>"),
    "LFM2.5-Instruct": Facts("always", *THINK, *LFM, "<|im_end|>"),
    "MiMo-VL": Facts("no", *NONE, *HERMES, "<|im_end|>"),
    "MiniMax-M1": Facts("no", *NONE, "<tool_calls>", "</tool_calls>", "<end_of_sentence>"),
    "MiniMax-M2": Facts("always", *THINK, "<minimax:tool_call>", "</minimax:tool_call>", "[e~["),
    "MiniMax-M3": Facts(
        "always",
        "<mm:think>",
        "</mm:think>",
        "]<]minimax[>[<tool_call>",
        "]<]minimax[>[</tool_call>",
        "[e~[",
    ),
    "Mistral-Small-3.2-24B-Instruct-2506": Facts("no", *NONE, *MISTRAL, "[/INST]"),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": Facts("toggle", *THINK, *HERMES, "<|im_end|>"),
    "NVIDIA-Nemotron-Nano-v2": Facts("always", *THINK, "<TOOLCALL>", "</TOOLCALL>", ""),
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": Facts("no", *NONE, *HERMES, "<|im_end|>"),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": Facts("no", *NONE, *HERMES, "<|im_end|>"),
    "Qwen-QwQ-32B": Facts("toggle", *THINK, *HERMES, "<|im_end|>"),
    "Qwen-Qwen2.5-7B-Instruct": Facts("no", *NONE, *HERMES, "<|im_end|>"),
    "Qwen-Qwen3-0.6B": Facts("toggle", *THINK, *HERMES, "<|im_end|>"),
    "Qwen3-Coder": Facts("no", *NONE, *HERMES, "<|im_end|>"),
    "Qwen3.5-4B": Facts("toggle", *THINK, *HERMES, "<|im_end|>"),
    "Reka-Edge": Facts("toggle", *THINK, *HERMES, "<sep>"),
    "Spark2.5": Facts("toggle", *THINK, *HERMES, "<｜end▁of▁sentence｜>"),
    "StepFun3.5-Flash": Facts("always", *THINK, *HERMES, "<|im_end|>"),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": Facts("always", *THINK, *DEEPSEEK, "", tools=False),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": Facts("toggle", *THINK, *DEEPSEEK, "", tools=False),
    "deepseek-ai-DeepSeek-V3.1": Facts("toggle", *THINK, *DEEPSEEK, "", tools=False),
    "deepseek-ai-DeepSeek-V3.2": Facts(
        "toggle", *THINK, "<｜DSML｜function_calls>", "</｜DSML｜function_calls>", ""
    ),
    "deepseek-ai-DeepSeek-V4": Facts(
        "toggle", *THINK, "<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", ""
    ),
    "deepseek-ai-DeepSeek-V4-Flash-0731": Facts(
        "toggle", *THINK, "<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", ""
    ),
    "fireworks-ai-llama-3-firefunction-v2": Facts(
        "no", *NONE, "functools", "", "<|eot_id|><|start_header"
    ),
    "google-gemma-2-2b-it": Facts("no", *NONE, *NONE, "<end_of_turn>", system=False, tools=False),
    "google-gemma-4-31B-it": Facts(
        "toggle", "<|channel>thought", "<channel|>", "<|tool_call>", "<tool_call|>", "<turn|>"
    ),
    "google-gemma-4-31B-it-interleaved": Facts(
        "toggle", "<|channel>thought", "<channel|>", "<|tool_call>", "<tool_call|>", "<turn|>"
    ),
    "ibm-granite-granite-3.3-2B-Instruct": Facts(
        "toggle", *THINK, "<|tool_call|>", "", "<|end_of_text|>"
    ),
    "ibm-granite-granite-4.0": Facts("no", *NONE, *HERMES, "<|end_of_text|>"),
    "ibm-granite-granite-4.1": Facts("no", *NONE, *HERMES, "<|end_of_text|>"),
    "inclusionai-ling-3.0-flash": Facts("toggle", *THINK, *HERMES, "<|role_end|>"),
    "llama-cpp-deepseek-r1": Facts("always", *THINK, *DEEPSEEK, "<｜end▁of▁sentence｜>"),
    "llama-cpp-rwkv-world": Facts("toggle", *THINK, *NONE, "", tools=False),
    "meetkai-functionary-medium-v3.1": Facts("no", *NONE, "<function=", "", "<|eot_id|>"),
    "meetkai-functionary-medium-v3.2": Facts(
        "no", *NONE, *NONE, "<|eot_id|>", family="functionary"
    ),
    "meta-llama-Llama-3.1-8B-Instruct": Facts("no", *NONE, *NONE, "<|eot_id|>", bare_json=True),
    "meta-llama-Llama-3.2-3B-Instruct": Facts("no", *NONE, *NONE, "<|eot_id|>", bare_json=True),
    "meta-llama-Llama-3.3-70B-Instruct": Facts("no", *NONE, *NONE, "<|eot_id|>", bare_json=True),
    "microsoft-Phi-3.5-mini-instruct": Facts("no", *NONE, *NONE, "<|end|>\n</s>", tools=False),
    "mistralai-Ministral-3-14B-Reasoning-2512": Facts(
        "always", "[THINK]", "[/THINK]", *MISTRAL, "[/INST]"
    ),
    "mistralai-Mistral-Nemo-Instruct-2407": Facts("no", *NONE, *MISTRAL, "[/INST]"),
    "moonshotai-Kimi-K2": Facts("no", *NONE, *KIMI, "<|im_end|>"),
    "muse-glimmer": Facts(
        "always", "to=self<|message|>", "<|eom|>", *NONE, "<|eot|>", family="muse"
    ),
    "openai-gpt-oss-120b": Facts(
        "always", "<|channel|>analysis<|message|>", "<|end|>", *NONE, "<|end|>", family="harmony"
    ),
    "openbmb-MiniCPM5-1B": Facts("toggle", *THINK, '<function name="', "", "<|im_end|>"),
    "poolside-Laguna-S-2.1": Facts("toggle", *THINK, *HERMES, "</user>"),
    "poolside-Laguna-XS-2.1": Facts("toggle", *THINK, *HERMES, "</user>"),
    "poolside-Laguna-XS.2": Facts("toggle", *THINK, *HERMES, "</user>"),
    "tencent-Hy3": Facts(
        "always",
        "<think:opensource>",
        "</think:opensource>",
        "<tool_calls:opensource>",
        "</tool_calls:opensource>",
        "",
    ),
    "unsloth-Apriel-1.5": Facts("no", *NONE, "<tool_calls>", "</tool_calls>", "<|end|>"),
    "unsloth-mistral-Devstral-Small-2507": Facts("no", *NONE, *MISTRAL, "[/INST]"),
    "upstage-Solar-Open-100B": Facts(
        "always", "<|think|>", "<|end|>", "<|tool_calls|>", "", "<|end|>"
    ),
}

WRITES_NO_CALLS = {
    "LFM2-8B-A1B": "leaves calls out of the history",
    "LFM2.5-Instruct": "leaves calls out of the history",
    "ibm-granite-granite-3.3-2B-Instruct": "leaves calls out of the history",
}
"""Templates that do not show a call, and why."""
