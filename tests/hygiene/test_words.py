"""The catalogue and the code agree: no key is missing, none is dead, all are well formed."""

import re
import string
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "llmchat" / "text"
SOURCES = [p.read_text(encoding="utf-8") for p in (ROOT / "llmchat").rglob("*.py")]


def flat(path: Path) -> dict[str, str]:
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        f"{room}.{key}": words for room, table in tables.items() for key, words in table.items()
    }


ENGLISH = flat(TEXT / "en.toml")
ROOMS = {key.split(".")[0] for key in ENGLISH}
KEY = re.compile(rf"""["']((?:{"|".join(sorted(ROOMS))})\.[a-z][a-z0-9_]*)["']""")
PREFIX = re.compile(rf"""f["']((?:{"|".join(sorted(ROOMS))})\.[a-z0-9_]*)\{{""")


def named_in_code() -> set[str]:
    return {key for source in SOURCES for key in KEY.findall(source)}


def prefixes_in_code() -> set[str]:
    return {prefix for source in SOURCES for prefix in PREFIX.findall(source)}


def test_every_key_that_code_names_is_in_the_catalogue():
    rooms = ROOMS - {"config"}  # `config.toml` and the like are file names
    missing = {k for k in named_in_code() if k.split(".")[0] in rooms} - set(ENGLISH)
    assert {k for k in missing if not k.endswith((".py", ".toml", ".json", ".db"))} == set()


def test_no_key_is_dead():
    used, prefixes = named_in_code(), tuple(prefixes_in_code())
    dead = {
        key
        for key in ENGLISH
        if key not in used
        and key.removesuffix("_hint") not in used
        and not (prefixes and key.startswith(prefixes))
    }
    assert dead == set()


def test_sentences_are_well_formed():
    for key, words in ENGLISH.items():
        assert words.strip(), key
        for _, field, spec, _ in string.Formatter().parse(words):
            assert field is None or field.isidentifier(), key
            assert not spec or re.fullmatch(r"[,.0-9a-z<>^]*", spec), key


def test_other_languages_have_the_same_keys_and_placeholders():
    def fields(words: str) -> set[str]:
        return {f for _, f, _, _ in string.Formatter().parse(words) if f}

    for path in TEXT.glob("*.toml"):
        other = flat(path)
        assert set(other) == set(ENGLISH), path.name
        assert [k for k in other if fields(other[k]) != fields(ENGLISH[k])] == [], path.name
