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


def _expand(text: str, environ: Mapping[str, str]) -> Path:
    """With `~` as the home that `environ` names, and variables filled in; absolute."""
    home = environ.get("HOME") or os.path.expanduser("~")
    if text == "~" or text.startswith("~/"):
        text = home + text[1:]
    return Path(os.path.expandvars(text)).absolute()
