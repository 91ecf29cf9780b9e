"""A repository's files as a person chooses among them: one variant per quantization.

Owns grouping (shards, sub-folders, projectors, drafters), labels, matching a selector and the fixed
rule for none. Refuses the network, free memory (core knows it) and any silent fall-back. Labels
are the file names' own: `Q4_K_M`, `UD-Q4_K_XL`, `i1-Q4_K_M`, `MXFP4`, `QAT-Q4_0`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llmchat.errors import NotFound

SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})", re.DOTALL)
_LABEL = re.compile(
    r"(?:^|[.\-_ ])(?P<label>(?:UD-|i1-|QAT-)*"
    r"(?:I?Q\d{1,2}(?:_(?:[0-9]|K|XXS|XS|XXL|XL|NL|S|M|L)){0,3}|TQ\d_\d"
    r"|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32))(?=$|[.\-_ ])",
    re.IGNORECASE,
)
_DRAFTER = re.compile(r"^(?:mtp|eagle3|dflash|dspark)-", re.IGNORECASE)

Kind = Literal["model", "projector", "drafter"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a repository's model: its file, or its shards in order."""

    label: str
    """What a selector may say; unique within the repository."""
    files: tuple[str, ...]
    """Paths in the repository; more than one = shards."""
    size: int
    """Bytes over all files."""
    kind: Kind = "model"
    complete: bool = True
    """False when a shard is missing."""

    @property
    def missing(self) -> int:
        """How many shards are not here; 0 for a whole variant."""
        shard = SHARD.fullmatch(re.sub(r"\.gguf$", "", self.files[0], flags=re.IGNORECASE))
        return max(0, int(shard["count"]) - len(self.files)) if shard else 0

    @property
    def bits(self) -> int:
        """Bits a weight that the label speaks of; 0 when it says nothing."""
        return bits_of(self.label)


def bits_of(label: str) -> int:
    """The number in a quantization label: 4 for `IQ4_XS`, 16 for `BF16`, 0 for none."""
    found = re.search(r"(?:Q|FP|F)(\d{1,2})", label.upper())
    return int(found[1]) if found else 0


def label_of(path: str) -> str:
    """The label in a file's name, else in its folder's, else "". Upper case but for `i1-`."""
    folder, _, name = path.rpartition("/")
    stem = _stem(name)
    matches = list(_LABEL.finditer(stem)) or list(_LABEL.finditer(folder.rpartition("/")[2]))
    return _canonical(matches[-1]["label"]) if matches else ""


def _canonical(label: str) -> str:
    upper = label.upper().replace("I1-", "i1-")
    return re.sub(r"^FP(16|32)$", r"F\1", upper)


def _stem(name: str) -> str:
    stem = re.sub(r"\.gguf$", "", name, flags=re.IGNORECASE)
    shard = SHARD.fullmatch(stem)
    return shard["stem"] if shard else stem


def kind_of(path: str) -> Kind | None:
    """What a file is for; None for one that nobody runs (imatrix data, not a GGUF)."""
    name = path.rpartition("/")[2].lower()
    if not name.endswith(".gguf") or "imatrix" in name:
        return None
    if "mmproj" in name:
        return "projector"
    return "drafter" if _DRAFTER.match(name) else "model"


def group(files: Mapping[str, int]) -> list[Variant]:
    """Every variant of `files` (path to bytes), smallest first; shards merged, labels unique."""
    groups: dict[tuple[str, int], list[str]] = {}
    for path in sorted(files):
        if kind_of(path) is not None:
            groups.setdefault(_group_key(path), []).append(path)
    variants = [_variant(paths, count, files) for (_, count), paths in groups.items()]
    return sorted(_unique(variants), key=lambda variant: (variant.size, variant.label))


def _group_key(path: str) -> tuple[str, int]:
    """What the shards of one model share: their path without the index, and their count."""
    folder, _, name = path.rpartition("/")
    shard = SHARD.fullmatch(re.sub(r"\.gguf$", "", name, flags=re.IGNORECASE))
    if shard is None:
        return path, 0
    return f"{folder}/{shard['stem']}", int(shard["count"])


def _variant(paths: Sequence[str], count: int, files: Mapping[str, int]) -> Variant:
    indexes = [int(path[-len("00001-of-00001.gguf") :][:5]) for path in paths] if count else []
    return Variant(
        label=label_of(paths[0]),
        files=tuple(paths),
        size=sum(files[path] for path in paths),
        kind=kind_of(paths[0]) or "model",
        complete=indexes == list(range(1, count + 1)),
    )


def _unique(variants: list[Variant]) -> list[Variant]:
    """Two with one label: the one whose name ends in it keeps it, others get their path."""
    result = []
    for variant in variants:
        rivals = [v for v in variants if v.label == variant.label and v.kind == variant.kind]
        if variant.label and (len(rivals) == 1 or _keeps_label(variant, rivals)):
            result.append(variant)
        else:
            result.append(
                Variant(
                    label=variant.files[0],
                    files=variant.files,
                    size=variant.size,
                    kind=variant.kind,
                    complete=variant.complete,
                )
            )
    return result


def _keeps_label(variant: Variant, rivals: list[Variant]) -> bool:
    ending = [
        rival
        for rival in rivals
        if _fold(_stem(rival.files[0].rpartition("/")[2])).endswith(_fold(rival.label))
    ]
    if len(ending) > 1 and len({_fold(_unsharded(rival)) for rival in ending}) == 1:
        # The same model whole and in shards: the fewest files.
        ending = [min(ending, key=lambda rival: len(rival.files))]
    return ending == [variant]


def _unsharded(variant: Variant) -> str:
    folder, _, name = variant.files[0].rpartition("/")
    return f"{folder}/{_stem(name)}"


def _fold(text: str) -> str:
    return text.casefold().replace("-", "_")


def choose(variants: Sequence[Variant], selector: str, *, repo: str) -> Variant:
    """The variant that a selector names: exact file, exact label, unique ending of a label.

    Raises:
        NotFound: none, or several; the sentence lists what is there.
    """
    models = [variant for variant in variants if variant.kind == "model" and variant.complete]
    if not models:
        raise NotFound("library.no_models_in_repo", repo=repo)
    wanted = _fold(selector)
    for rank in (_is_file, _is_label, _ends_label):
        found = [variant for variant in models if rank(variant, wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise NotFound(
        "library.no_such_variant",
        selector=selector,
        repo=repo,
        there=", ".join(variant.label for variant in models),
    )


def _is_file(variant: Variant, wanted: str) -> bool:
    names = {form for path in variant.files for form in (path, path.rpartition("/")[2])}
    stems = {re.sub(r"\.gguf$", "", name, flags=re.IGNORECASE) for name in names}
    return wanted in {_fold(name) for name in names | stems}


def _is_label(variant: Variant, wanted: str) -> bool:
    return _fold(variant.label) == wanted


def _ends_label(variant: Variant, wanted: str) -> bool:
    return _fold(variant.label).endswith(f"_{wanted}")


def fixed_choice(variants: Sequence[Variant], *, repo: str) -> Variant:
    """The variant without a selector, the same on every machine: Q4_K_M, Q8_0, then small.

    Raises:
        NotFound: the repository holds no model that could be run.
    """
    models = [variant for variant in variants if variant.kind == "model" and variant.complete]
    if not models:
        raise NotFound("library.no_models_in_repo", repo=repo)
    for label in ("Q4_K_M", "Q8_0"):
        for variant in models:
            if variant.label == label:
                return variant
    enough = [variant for variant in models if variant.bits >= 4]
    if not enough and len(models) > 1:
        raise NotFound(
            "library.choose_variant", repo=repo, there=", ".join(v.label for v in models)
        )
    return min(enough or models, key=lambda variant: variant.size)


def usual(variants: Sequence[Variant]) -> Variant | None:
    """What the fixed rule takes; None where it takes none."""
    try:
        return fixed_choice(variants, repo="")
    except NotFound:
        return None


def projector_for(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """The projector that belongs to a model, by llama.cpp's rule (`common/download.cpp`).

    Deepest shared folder, then the same label, then the nearest bits; F16 and BF16 on ties.
    """
    return _companion(variant, [v for v in variants if v.kind == "projector" and v.complete])


def drafter_for(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """The small model that drafts for another one, chosen as its projector is."""
    return _companion(variant, [v for v in variants if v.kind == "drafter" and v.complete])


def _companion(variant: Variant, candidates: Sequence[Variant]) -> Variant | None:
    folder = variant.files[0].rpartition("/")[0]

    def rank(candidate: Variant) -> tuple[int, bool, int, bool, str]:
        path = candidate.files[0]
        label = label_of(path)
        return (
            -_shared_depth(folder, path.rpartition("/")[0]),
            _fold(label) != _fold(variant.label),
            abs(bits_of(label) - variant.bits),
            label not in ("F16", "BF16"),
            path,
        )

    return min(candidates, key=rank, default=None)


def _shared_depth(one: str, other: str) -> int:
    depth = 0
    for left, right in zip(one.split("/"), other.split("/"), strict=False):
        if left != right or not left:
            break
        depth += 1
    return depth
