"""What a person types to name a model, taken apart without asking anybody.

Owns the grammar: a path, `owner/repo` with a selector, a Hugging Face address, or a word. Accepts
what llama.cpp (`owner/repo:Q4_K_M`), LM Studio (`owner/repo@q4_k_m`) and a browser's address bar
give. Refuses to look at a disk or a hub, and to guess.
"""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from llmchat.errors import UsageError

HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_SCHEMES = ("hf://", "huggingface://")
_OTHER_HOSTS = ("registry.ollama.ai", "ollama.com", "modelscope.cn", "ghcr.io", "docker.io")
"""Registries that other programs fetch from; we do not."""
_NO_OWNERS = ("datasets", "spaces", "api", "models", "docs")
"""First words of Hugging Face's own addresses that are no owner of a model."""
_REPO_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_MAX = 4096


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference. Exactly the fields of its kind are set."""

    text: str
    """As it was typed."""
    kind: Literal["file", "repo", "word"]
    path: str = ""
    """A local file, not expanded."""
    repo: str = ""
    """`owner/name`."""
    selector: str = ""
    """A label, a file's name, or its path in the repository."""
    revision: str = ""
    """A branch, tag or commit that an address named; "" otherwise."""
    word: str = ""
    """An alias, a short name, or part of a name."""


def is_repo(text: str) -> bool:
    """True for a well-formed `owner/name` (rules of Hugging Face's `validate_repo_id`)."""
    parts = text.split("/")
    return (
        len(parts) == 2
        and all(_REPO_PART.fullmatch(part) for part in parts)
        and "--" not in text
        and ".." not in text
        and not text.endswith(".git")
    )


def parse_reference(text: str) -> Reference:
    """Take a typed reference apart.

    Raises:
        UsageError: it is empty, has two selectors, or names a place we do not fetch from.
    """
    typed = text.strip()
    if not typed or len(typed) > _MAX or not typed.isprintable():
        raise UsageError("library.bad_reference", ref=text[:80])
    if typed.startswith("file://"):
        return Reference(text=text, kind="file", path=unquote(typed.removeprefix("file://")))
    stripped, from_hub = _strip_hub(typed)
    if not from_hub and _looks_local(stripped):
        return Reference(text=text, kind="file", path=stripped)
    if "/" in stripped:
        return _repository(text, stripped)
    if from_hub:
        raise UsageError("library.bad_reference", ref=text[:80])
    return _word(text, stripped)


def _looks_local(typed: str) -> bool:
    if typed.startswith(("./", "../", "/", "~")) or typed in (".", ".."):
        return True
    # `owner/repo:file.gguf` names a file of a repository, `folder/file.gguf` one of this disk.
    return typed.lower().endswith(".gguf") and ":" not in typed and "@" not in typed


def _strip_hub(typed: str) -> tuple[str, bool]:
    """Without the hub's scheme and host, and whether there was one."""
    lowered = typed.lower()
    for scheme in _SCHEMES:
        if lowered.startswith(scheme):
            return typed[len(scheme) :], True
    for host in HUB_HOSTS:
        if lowered.startswith(f"{host}/"):
            return typed[len(host) + 1 :], True
    if "://" not in typed:
        return typed, False
    try:
        address = urlsplit(typed)
    except ValueError as error:
        raise UsageError("library.bad_reference", ref=typed[:80]) from error
    if address.scheme in ("https", "http") and (address.hostname or "") in HUB_HOSTS:
        return unquote(address.path).strip("/"), True
    raise UsageError("library.foreign_address", ref=typed[:200])


def _repository(text: str, typed: str) -> Reference:
    owner, _, rest = typed.partition("/")
    cut = re.search(r"[/:@]", rest)
    name, tail = (rest[: cut.start()], rest[cut.start() :]) if cut else (rest, "")
    repo = f"{owner}/{name}"
    if owner.lower() in _OTHER_HOSTS:
        raise UsageError("library.foreign_address", ref=text[:200])
    if not is_repo(repo) or owner in _NO_OWNERS:
        raise UsageError("library.bad_reference", ref=text[:80])
    tail = tail.rstrip("/")
    revision, tail = _revision(tail)
    inside, mark, selector = _split_selector(tail)
    if mark and not selector:
        raise UsageError("library.bad_reference", ref=text[:80])
    if mark and re.search(r"[:@]", selector):
        raise UsageError("library.two_selectors", ref=text[:200])
    if selector.lower() == "latest":  # Ollama's and Docker's word for no choice at all
        selector = ""
    if inside and mark:
        raise UsageError("library.two_selectors", ref=text[:200])
    return Reference(
        text=text, kind="repo", repo=repo, selector=selector or inside, revision=revision
    )


def _revision(tail: str) -> tuple[str, str]:
    """Take `/blob/REV`, `/resolve/REV` or `/tree/REV` off the front of what follows the name."""
    # Pull requests and converted branches are named by a path: `refs/pr/1`.
    revision = r"refs/(?:pr|convert|heads|tags)/[^/:@]+|[^/:@]+"
    found = re.fullmatch(rf"/(?:blob|resolve|raw|tree)/({revision})(.*)", tail)
    return (found[1], found[2]) if found else ("", tail)


def _split_selector(tail: str) -> tuple[str, str, str]:
    """A path in the repository, the mark, and what follows the mark."""
    cut = re.search(r"[:@]", tail)
    if cut is None:
        return tail.strip("/"), "", ""
    return tail[: cut.start()].strip("/"), cut[0], tail[cut.end() :]


def _word(text: str, typed: str) -> Reference:
    word, mark, selector = typed.partition("@")
    if not word or (mark and not selector):
        raise UsageError("library.bad_reference", ref=text[:80])
    if "@" in selector:
        raise UsageError("library.two_selectors", ref=text[:200])
    return Reference(text=text, kind="word", word=word, selector=selector)
