"""How the next token is chosen: one sampler chain per reply.

Owns the chain in llama.cpp's own order (`common_sampler_init` of common/sampling.cpp), the
defaults (a request's values, then the model's metadata, then llama.cpp's), and that every chain
ends in a picker. Refuses grammars (`constraint/`) and says every bad value as one sentence before
llama.cpp sees it: a token id outside the vocabulary aborts the process.
"""

import ctypes
import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from llmchat.engine.worker.capi import CApiError, Context, Floats, Pointer, model_text
from llmchat.engine.worker.vocab import Vocab
from llmchat.errors import GenerationFailed
from llmchat.values import LLAMA_CPP_SAMPLING, Sampling

ORDER: Final = (
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
)
"""llama.cpp's default chain, by its names."""
KNOWN: Final = (*ORDER, "infill", "adaptive_p")
"""All of its samplers; `adaptive_p` chooses the token itself, in whatever place it is named."""

DEFAULTS: Final = msgspec.structs.replace(LLAMA_CPP_SAMPLING, samplers=ORDER)

_ALIASES: Final = {
    "typical_p": "typ_p",
    "typical": "typ_p",
    "typ": "typ_p",
    "nucleus": "top_p",
    "temp": "temperature",
}
_METADATA: Final = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "repeat_last_n": "penalty_last_n",
    "repeat_penalty": "penalty_repeat",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}
"""Our field -> the key under `general.sampling.` in a model file."""

_SEED_RANDOM: Final = 0xFFFFFFFF
"""llama.cpp draws a seed of its own for this value: never pass it."""
_BOUND: Final = 1e6
CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""`llama_token_data`."""


def candidates(logits: Floats) -> npt.NDArray[np.void]:
    """A row's logits as candidates, each with its token id."""
    rows = np.zeros(logits.size, CANDIDATE)
    rows["id"] = np.arange(logits.size, dtype=np.int32)
    rows["logit"] = logits
    return rows


def model_sampling(model: Pointer) -> Sampling:
    """What the model's metadata recommends; values that are not usable are left out."""
    found: dict[str, Any] = {}
    for field, key in _METADATA.items():
        text = model_text(model, f"general.sampling.{key}")
        if text is None:
            continue
        try:
            value = float(text)
            whole = isinstance(getattr(DEFAULTS, field), int)
            candidate: Any = int(value) if whole else value
            validate(Sampling(**{field: candidate}), 0)
        except (ValueError, OverflowError, GenerationFailed):
            continue
        found[field] = candidate
    names = model_text(model, "general.sampling.sequence")
    if names:
        known = tuple(name for name in map(_name, names.split(";")) if name in KNOWN)
        if known:
            found["samplers"] = known
    return Sampling(**found)


def merge(request: Sampling, model: Sampling) -> Sampling:
    """Every value that counts: the request's, else the model's, else llama.cpp's."""
    values = {}
    for field in Sampling.__struct_fields__:
        layers = (getattr(layer, field) for layer in (request, model, DEFAULTS))
        values[field] = next((value for value in layers if value is not None), None)
    return Sampling(**values)


def _name(name: str) -> str:
    name = name.strip().replace("-", "_")
    return _ALIASES.get(name, name)


_POSITIVE: Final = ("repeat_penalty", "dry_base", "mirostat_tau", "mirostat_eta")


def validate(sampling: Sampling, n_vocab: int) -> None:
    """Refuse what llama.cpp would abort on, or answer with garbage.

    Raises:
        GenerationFailed: with the field and its value.
    """
    for field in Sampling.__struct_fields__:
        value = getattr(sampling, field)
        if isinstance(value, int | float) and field != "seed":
            low = 1e-6 if field in _POSITIVE else -_BOUND
            if not (math.isfinite(value) and low <= value <= _BOUND):
                raise GenerationFailed("engine.bad_sampling", field=field, value=value)
    if sampling.mirostat not in (None, 0, 1, 2):
        raise GenerationFailed("engine.bad_sampling", field="mirostat", value=sampling.mirostat)
    if sampling.seed is not None and not 0 <= sampling.seed < 2**64:
        raise GenerationFailed("engine.bad_sampling", field="seed", value=sampling.seed)
    for name in sampling.samplers or ():
        if _name(name) not in KNOWN:
            raise GenerationFailed("engine.bad_sampling", field="samplers", value=name)
    for token, bias in (sampling.logit_bias or {}).items():
        if not 0 <= token < n_vocab or math.isnan(bias):
            raise GenerationFailed("engine.bad_sampling", field="logit_bias", value=token)


def draw_seed() -> int:
    """A fresh 32-bit seed that llama.cpp takes as it is."""
    return secrets.randbelow(_SEED_RANDOM)


def seed_of(sampling: Sampling, choice: int) -> int:
    """The seed of a choice: the request's plus the choice, or a fresh one."""
    if sampling.seed is None:
        return draw_seed()
    return (sampling.seed + choice) % _SEED_RANDOM


class Chain:
    """A sampler chain with a picker at its end. `close` frees it."""

    def __init__(
        self,
        vocab: Vocab,
        sampling: Sampling,
        seed: int,
        *,
        banned: Iterable[int] = (),
        n_ctx: int = 0,
    ) -> None:
        """`sampling` is merged and validated; `banned` tokens can never be chosen.

        `n_ctx` is what -1 means for how far penalties look back.
        """
        self.vocab = vocab
        self.sampling = sampling = _with_windows(sampling, n_ctx)
        self.seed = seed
        self.remembers = _remembers(sampling)
        biases = {**(sampling.logit_bias or {}), **dict.fromkeys(banned, -math.inf)}
        biases.update(dict.fromkeys(_suppressed(vocab), -math.inf))
        # Nothing to weigh: the largest logit of the row, without building 49k candidates.
        self._dead = [token for token, bias in biases.items() if bias == -math.inf]
        self.dead = np.array(self._dead, np.int64)
        self.plain = bool(
            sampling.temperature is not None
            and sampling.temperature <= 0
            and not self.remembers
            and len(self.dead) == len(biases)
            and not sampling.mirostat
        )
        self.pointer: Pointer = None
        if not self.plain:
            self._build(biases)

    def _build(self, biases: dict[int, float]) -> None:
        self.pointer = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        if biases:
            rows: Pointer = (lib.llama_logit_bias * len(biases))()
            for place, (token, bias) in enumerate(biases.items()):
                rows[place].token, rows[place].bias = token, bias
            self._add(lib.llama_sampler_init_logit_bias(self.vocab.size, len(biases), rows))
        for sampler in _samplers(self.vocab, self.sampling, self.seed):
            self._add(sampler)

    def _add(self, sampler: Pointer) -> None:
        if not sampler:
            self.close()
            raise CApiError("llama.cpp made no sampler")
        lib.llama_sampler_chain_add(self.pointer, sampler)

    def sample(self, context: Context, row: int) -> int:
        """Choose the next token from a row's logits, and remember it."""
        if self.plain:
            logits = context.logits(row)
            for token in self._dead:  # a few: cheaper one by one than as an index
                logits[token] = -math.inf
            return int(logits.argmax())
        return int(
            lib.llama_sampler_sample(self.pointer, context.pointer, context.check_output(row))
        )

    def pick(self, rows: npt.NDArray[np.void]) -> int:
        """Choose among candidates (`CANDIDATE`) without remembering; `rows` is used up."""
        if self.plain:
            if self.dead.size:
                rows["logit"][np.isin(rows["id"], self.dead)] = -np.inf
            return int(rows["id"][rows["logit"].argmax()])
        return self.apply(rows)[0]

    def apply(self, rows: npt.NDArray[np.void]) -> tuple[int, npt.NDArray[np.void]]:
        """Run the chain without remembering: the chosen token, and the candidates it left."""
        data = ctypes.cast(rows.ctypes.data, ctypes.POINTER(lib.llama_token_data))
        candidates = lib.llama_token_data_array(data, rows.size, -1, False)
        lib.llama_sampler_apply(self.pointer, ctypes.byref(candidates))
        left = _left_by(candidates)
        if not 0 <= candidates.selected < candidates.size:
            raise CApiError("the chain chose nothing")
        return int(left["id"][candidates.selected]), left

    def accept(self, token: int) -> None:
        """Remember a token that was not chosen here: the prompt's, or a forced one."""
        if self.pointer and 0 <= token < self.vocab.size:
            lib.llama_sampler_accept(self.pointer, token)

    def remember(self, prompt: Sequence[int]) -> None:
        """Let penalties and DRY see the end of the prompt, as llama.cpp's server does."""
        if not (self.pointer and self.remembers):
            return
        s = self.sampling
        window = max(s.repeat_last_n or 0, s.dry_penalty_last_n or 0, 0)
        for token in prompt[-window:] if window else ():
            self.accept(token)

    def close(self) -> None:
        """Free the chain and its samplers."""
        if self.pointer:
            lib.llama_sampler_free(self.pointer)
            self.pointer = None


def _left_by(candidates: Pointer) -> npt.NDArray[np.void]:
    """What is left, from where a sampler says that it begins: XTC moves the array's start."""
    address = ctypes.addressof(candidates.data.contents)
    size = candidates.size * ctypes.sizeof(lib.llama_token_data)
    return np.frombuffer((ctypes.c_char * size).from_address(address), CANDIDATE).copy()


def _remembers(sampling: Sampling) -> bool:
    """Whether earlier tokens weigh: penalties or DRY."""
    penalties = (
        sampling.repeat_penalty != 1.0
        or bool(sampling.presence_penalty)
        or bool(sampling.frequency_penalty)
    ) and sampling.repeat_last_n != 0
    return penalties or bool(sampling.dry_multiplier)


def _with_windows(sampling: Sampling, n_ctx: int) -> Sampling:
    def whole(count: int | None) -> int | None:
        return n_ctx if count is not None and count < 0 else count

    return msgspec.structs.replace(
        sampling,
        repeat_last_n=whole(sampling.repeat_last_n),
        dry_penalty_last_n=whole(sampling.dry_penalty_last_n),
    )


def _suppressed(vocab: Vocab) -> list[int]:
    count = ctypes.c_int32(0)
    tokens = lib.llama_vocab_get_suppress_tokens(vocab.pointer, ctypes.byref(count))
    return [tokens[index] for index in range(count.value)] if tokens else []


def _samplers(vocab: Vocab, s: Sampling, seed: int) -> list[Pointer]:
    """The samplers in order, the last one a picker."""
    greedy = (s.temperature or 0.0) <= 0 and not s.mirostat
    if s.mirostat:
        temp = lib.llama_sampler_init_temp(s.temperature)
        if s.mirostat == 1:
            tau_eta = (s.mirostat_tau, s.mirostat_eta)
            return [temp, lib.llama_sampler_init_mirostat(vocab.size, seed, *tau_eta, 100)]
        return [temp, lib.llama_sampler_init_mirostat_v2(seed, s.mirostat_tau, s.mirostat_eta)]
    order = [_name(name) for name in s.samplers or ORDER]
    adaptive = "adaptive_p" in order and not greedy
    order = [name for name in order if name != "adaptive_p"]
    if greedy:  # what cannot change which one is the largest, or could drop it, is left out
        order = [name for name in order if name in ("penalties", "dry")]
    made = [_MAKERS[name](vocab, s, seed) for name in order if not _is_neutral(name, s)]
    if adaptive:
        return [
            *made,
            lib.llama_sampler_init_adaptive_p(s.adaptive_target, s.adaptive_decay, seed),
        ]
    picker = lib.llama_sampler_init_greedy() if greedy else lib.llama_sampler_init_dist(seed)
    return [*made, picker]


def _is_neutral(name: str, s: Sampling) -> bool:
    """A sampler whose values switch it off: left out, since each costs a pass."""
    return bool(
        {
            "penalties": not _remembers(msgspec.structs.replace(s, dry_multiplier=0.0)),
            "dry": not s.dry_multiplier,
            "top_n_sigma": (s.top_n_sigma or -1.0) <= 0,
            "top_k": (s.top_k or 0) <= 0,
            "typ_p": (s.typical_p or 0.0) >= 1,
            "top_p": (s.top_p or 0.0) >= 1,
            "min_p": (s.min_p or 0.0) <= 0,
            "xtc": (s.xtc_probability or 0.0) <= 0,
        }.get(name, False)
    )


def _dry(vocab: Vocab, s: Sampling, _seed: int) -> Pointer:
    words = [word.encode("utf-8", "replace") for word in s.dry_sequence_breakers or ()]
    breakers = (ctypes.c_char_p * len(words))(*words)
    return lib.llama_sampler_init_dry(
        vocab.pointer,
        s.dry_multiplier,
        s.dry_base,
        s.dry_allowed_length,
        max(0, s.dry_penalty_last_n or 0),
        breakers,
        len(words),
    )


def _penalties(vocab: Vocab, s: Sampling, _seed: int) -> Pointer:
    return lib.llama_sampler_init_penalties(
        vocab.size,
        max(0, s.repeat_last_n or 0),
        s.repeat_penalty,
        s.frequency_penalty,
        s.presence_penalty,
    )


_MAKERS: Final[dict[str, Callable[[Vocab, Sampling, int], Pointer]]] = {
    "penalties": _penalties,
    "dry": _dry,
    "top_n_sigma": lambda _v, s, _s: lib.llama_sampler_init_top_n_sigma(s.top_n_sigma),
    "top_k": lambda _v, s, _s: lib.llama_sampler_init_top_k(s.top_k),
    "typ_p": lambda _v, s, _s: lib.llama_sampler_init_typical(s.typical_p, 1),
    "top_p": lambda _v, s, _s: lib.llama_sampler_init_top_p(s.top_p, 1),
    "min_p": lambda _v, s, _s: lib.llama_sampler_init_min_p(s.min_p, 1),
    "xtc": lambda _v, s, seed: lib.llama_sampler_init_xtc(
        s.xtc_probability, s.xtc_threshold, 1, seed
    ),
    "infill": lambda v, _s, _seed: lib.llama_sampler_init_infill(v.pointer),
    "temperature": lambda _v, s, _s: lib.llama_sampler_init_temp_ext(
        s.temperature, s.dynatemp_range, s.dynatemp_exponent
    ),
}
