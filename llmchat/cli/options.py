"""The flags that say how a model is loaded and asked, with llama.cpp's names, as `ChatSettings`.

Owns the table of flags and the way from flags and `-o KEY VALUE` to settings. Refuses to merge
them with other layers: core does.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from llmchat.cli.parameters import Duration, Kind, Layers, Number, Whole
from llmchat.config.reading import checked, parse_text
from llmchat.config.schema import every_key
from llmchat.errors import ConfigError, UsageError
from llmchat.text import say
from llmchat.values import ChatSettings, Sampling, Wants

Command = TypeVar("Command", bound=Callable[..., Any])

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
SHARE = Number(0, 1)
POSITIVE = Number(0)
COUNT = Whole(1)

SAMPLING: dict[str, tuple[tuple[str, ...], Kind]] = {
    "temperature": (("--temp", "--temperature"), POSITIVE),
    "top_k": (("--top-k",), Whole(-1)),
    "top_p": (("--top-p",), SHARE),
    "min_p": (("--min-p",), SHARE),
    "typical_p": (("--typical", "--typical-p"), SHARE),
    "top_n_sigma": (("--top-nsigma", "--top-n-sigma"), Number()),
    "xtc_probability": (("--xtc-probability",), SHARE),
    "xtc_threshold": (("--xtc-threshold",), SHARE),
    "dynatemp_range": (("--dynatemp-range",), POSITIVE),
    "dynatemp_exponent": (("--dynatemp-exp",), Number()),
    "repeat_last_n": (("--repeat-last-n",), Whole(-1)),
    "repeat_penalty": (("--repeat-penalty",), POSITIVE),
    "presence_penalty": (("--presence-penalty",), Number()),
    "frequency_penalty": (("--frequency-penalty",), Number()),
    "dry_multiplier": (("--dry-multiplier",), POSITIVE),
    "dry_base": (("--dry-base",), POSITIVE),
    "dry_allowed_length": (("--dry-allowed-length",), Whole(0)),
    "dry_penalty_last_n": (("--dry-penalty-last-n",), Whole(-1)),
    "mirostat": (("--mirostat",), Whole(0, 2)),
    "mirostat_tau": (("--mirostat-ent",), POSITIVE),
    "mirostat_eta": (("--mirostat-lr",), POSITIVE),
    "adaptive_target": (("--adaptive-target",), Number()),
    "adaptive_decay": (("--adaptive-decay",), Number(0, 0.99)),
    "samplers": (("--samplers",), click.STRING),
    "seed": (("--seed",), Whole(0, 2**32 - 1)),
}
"""Field of `Sampling` -> its flags and their kind. Help: `cli.opt_FIELD`."""

WANTS: dict[str, tuple[tuple[str, ...], Kind]] = {
    "n_ctx": (("--ctx-size", "--ctx", "--context-length", "--num-ctx"), COUNT),
    "n_gpu_layers": (("-ngl", "--gpu-layers", "--n-gpu-layers"), Layers()),
    "cache_type_k": (("-ctk", "--cache-type-k"), click.Choice(CACHE_TYPES)),
    "cache_type_v": (("-ctv", "--cache-type-v"), click.Choice(CACHE_TYPES)),
    "flash_attn": (("-fa", "--flash-attn"), click.Choice(["auto", "on", "off"])),
    "n_threads": (("-t", "--threads"), COUNT),
    "n_batch": (("-b", "--batch-size"), COUNT),
    "n_ubatch": (("-ub", "--ubatch-size"), COUNT),
    "n_cpu_moe": (("-ncmoe", "--n-cpu-moe"), Whole(0)),
    "main_gpu": (("-mg", "--main-gpu"), Whole(0)),
    "split_mode": (("-sm", "--split-mode"), click.Choice(["none", "layer", "row"])),
}
"""Field of `Wants` -> its flags and their kind."""

ANSWER: dict[str, tuple[tuple[str, ...], Kind]] = {
    "max_tokens": (("-n", "--max-tokens", "--predict"), COUNT),
    "keep_alive": (("--keepalive", "--keep-alive", "--ttl"), Duration()),
    "speculation": (("--speculation",), click.Choice(["off", "ngram"])),
}
"""Field of `ChatSettings` -> its flags and their kind."""

_ADAPTER = "FILE[:SCALE]"
REPEATED: dict[str, tuple[tuple[str, ...], str, Kind, str]] = {
    "stop_tokens": (("--stop-token",), "stop_token", Whole(0), "ID"),
    "lora": (("--lora", "--lora-scaled"), "lora", click.STRING, _ADAPTER),
    "control_vectors": (
        ("--control-vector", "--control-vector-scaled"), "control_vector", click.STRING, _ADAPTER,
    ),
    "dry_sequence_breakers": (
        ("--dry-sequence-breaker",), "dry_sequence_breakers", click.STRING, "TEXT",
    ),
}  # fmt: skip
"""Fields that are given once for each of their values: flags, help, kind, name of a value."""

NOT_BY_OPTION = frozenset({"model", "system", "titles"})
"""Settings that have a flag of their own, or are none of a chat."""

OLLAMA_NAMES = {"num_ctx": "n_ctx", "num_predict": "max_tokens", "num_gpu": "n_gpu_layers"}
"""Names that `-o` also understands."""


def _options(table: dict[str, tuple[tuple[str, ...], Kind]], command: Command) -> Command:
    for field, (flags, kind) in reversed(table.items()):
        command = click.option(*flags, field, type=kind, help=say(f"cli.opt_{field}"))(command)
    return command


def load_options(command: Command) -> Command:
    """Add the flags that say how a model is loaded."""
    return _options(WANTS, command)


FIT = ("n_ctx", "cache_type_k", "cache_type_v", "n_gpu_layers")


def fit_options(command: Command) -> Command:
    """Add the flags that change what a model takes."""
    return _options({field: WANTS[field] for field in FIT}, command)


def alternatives_option(command: Command) -> Command:
    """Add the flag that says how many answers are wanted."""
    return click.option("--alternatives", type=COUNT, default=1, help=say("cli.opt_alternatives"))(
        command
    )


def shown_options(command: Command) -> Command:
    """Add the flags that say how answers are shown."""
    for option in (
        click.option("--stats", "--verbose", "stats", is_flag=True, help=say("cli.opt_stats")),
        click.option("--raw", is_flag=True, help=say("cli.opt_raw")),
        click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json")),
        click.option("--hidethinking", is_flag=True, help=say("cli.opt_hidethinking")),
    ):
        command = option(command)
    return command


def answer_options(command: Command) -> Command:
    """Add the flags that say how a model is asked."""
    command = click.option(
        "-o", "--option", "options", nargs=2, multiple=True, metavar="KEY VALUE",
        help=say("cli.opt_option"),
    )(command)  # fmt: skip
    command = click.option("--stop", "stop", multiple=True, help=say("cli.opt_stop"))(command)
    for field, (flags, about, kind, metavar) in reversed(REPEATED.items()):
        command = click.option(
            *flags, field, multiple=True, type=kind, metavar=metavar, help=say(f"cli.opt_{about}")
        )(command)
    command = click.option("--ignore-eos", is_flag=True, help=say("cli.opt_ignore_eos"))(command)
    return _options(ANSWER, _options(SAMPLING, command))


def settings_of(given: dict[str, Any]) -> ChatSettings:
    """The settings that a command line's values stand for; what was not given stays unset.

    Raises:
        UsageError: an `-o` names no setting, or its value is none for it.
    """
    sampling = _given(given, SAMPLING)
    if "samplers" in sampling:  # llama.cpp separates them with semicolons
        sampling["samplers"] = tuple(str(sampling["samplers"]).replace(";", " ").split())
    wants, rest = _given(given, WANTS), _given(given, ANSWER)
    if given.get("stop"):
        rest["stop"] = tuple(given["stop"])
    for field in REPEATED:
        if given.get(field):
            (sampling if field in Sampling.__struct_fields__ else rest)[field] = tuple(given[field])
    if given.get("ignore_eos"):
        rest["ignore_eos"] = True
    for key, text in given.get("options", ()):
        _take_option(key, text, sampling, wants, rest)
    return ChatSettings(sampling=Sampling(**sampling), wants=Wants(**wants), **rest)


def _given(given: dict[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    return {field: given[field] for field in fields if given.get(field) is not None}


def _take_option(
    key: str, text: str, sampling: dict[str, Any], wants: dict[str, Any], rest: dict[str, Any]
) -> None:
    """Put `-o KEY VALUE` where it belongs, held to the limits of `config.toml`."""
    name = key.rpartition(".")[2].replace("-", "_")
    name = OLLAMA_NAMES.get(name, name)
    for table, values in (("sampling", sampling), ("load", wants), ("chat", rest)):
        place = f"{table}.{name}"
        kind = every_key().get(place)
        if kind is not None and name not in NOT_BY_OPTION:
            try:
                values[name] = checked(place, parse_text(text, kind), kind)
            except ConfigError as error:  # the same sentence; here it is the command that is off
                raise click.UsageError(error.sentence) from error
            return
    raise UsageError("cli.no_option", key=key)
