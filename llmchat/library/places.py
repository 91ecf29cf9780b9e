"""Where other programs keep their models: found as those programs find it.

Owns the environment variables and default folders of each store. Refuses to make or read them.
"""

import os
from collections.abc import Mapping
from pathlib import Path


def find_hub_cache(environ: Mapping[str, str]) -> Path:
    """The Hugging Face cache: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG, ~/.cache.

    The order of huggingface_hub 2.4.0 (`constants.py`).
    """
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(name):
            return _expand(environ[name], environ)
    home = environ.get("HF_HOME")
    if home:
        return _expand(home, environ) / "hub"
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _expand(cache, environ) / "huggingface" / "hub"


def find_lmstudio(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """LM Studio's folders of models: the chosen one, today's usual, and that before 0.3.6."""
    usual = ("~/.lmstudio/models", "~/.cache/lm-studio/models")
    return _present((*_lmstudio_choice(environ), *usual), environ)


def _lmstudio_choice(environ: Mapping[str, str]) -> tuple[str, ...]:
    """`downloadsFolder` of LM Studio's own settings, when the user moved it."""
    import json

    try:
        text = _expand("~/.lmstudio/settings.json", environ).read_text(encoding="utf-8")
        chosen = json.loads(text)["downloadsFolder"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
    return (chosen,) if isinstance(chosen, str) and chosen else ()


def find_ollama(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Ollama's stores: OLLAMA_MODELS, else the user's and the Linux service's."""
    named = environ.get("OLLAMA_MODELS")
    standard = ("~/.ollama/models", "/usr/share/ollama/.ollama/models")
    return _present((named,) if named else standard, environ)


def find_llama_cpp(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The cache that llama.cpp used before it shared Hugging Face's: LLAMA_CACHE, else XDG's."""
    named = environ.get("LLAMA_CACHE")
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    standard = (f"{cache}/llama.cpp", "~/Library/Caches/llama.cpp")
    return _present((named,) if named else standard, environ)


def _present(names: tuple[str, ...], environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Those of the folders that are there and can be entered."""
    paths = (_expand(name, environ) for name in names)
    there = (path for path in paths if os.path.isdir(path) and os.access(path, os.X_OK))
    return tuple(dict.fromkeys(there))


def _expand(text: str, environ: Mapping[str, str]) -> Path:
    """With `~` as the home that `environ` names, and variables filled in; absolute."""
    home = environ.get("HOME") or os.path.expanduser("~")
    if text == "~" or text.startswith("~/"):
        text = home + text[1:]
    return Path(os.path.expandvars(text)).absolute()
