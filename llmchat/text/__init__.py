"""The one catalogue of words: every string that a person reads, by key.

Owns looking a sentence up and filling it in. A language is one TOML file beside this module; its
tables are rooms, its keys are what code names: `say("paths.not_ours", path=...)`. Refuses
formatting (colour, width) and everything from outside: values are cleaned where they are shown.
"""

import os
import tomllib
from functools import lru_cache
from pathlib import Path

FALLBACK = "en"


@lru_cache(maxsize=4)
def catalogue(language: str) -> dict[str, str]:
    """Every sentence of a language, keys flattened with dots; empty if there is no such file."""
    path = Path(__file__).with_name(f"{language}.toml")
    if not path.is_file():
        return {}
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        f"{room}.{key}": words for room, table in tables.items() for key, words in table.items()
    }


@lru_cache(maxsize=1)
def language() -> str:
    """The language of the user's messages: LLMCHAT_LANG, else the locale's, else English."""
    for name in ("LLMCHAT_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        wish = os.environ.get(name, "").split(".")[0].replace("-", "_").lower()
        for candidate in (wish, wish.split("_")[0]):
            if candidate.isidentifier() and Path(__file__).with_name(f"{candidate}.toml").is_file():
                return candidate
    return FALLBACK


def say(key: str, /, **values: object) -> str:
    """The sentence for `key` in the user's language, with `values` filled in.

    Raises:
        KeyError: no catalogue has the key: a mistake of ours, caught by the tests.
    """
    words = catalogue(language()).get(key) or catalogue(FALLBACK)[key]
    return words.format(**values) if values else words
