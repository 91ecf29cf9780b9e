"""The user's own keys: `[keys]` of config.toml, checked against the table of actions."""

import difflib
from collections.abc import Mapping

from textual.keys import Keys, _character_to_key

from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.actions import ACTIONS

MODIFIERS = {"ctrl", "alt", "shift", "super", "hyper", "meta"}
IDS = [action.id for action in ACTIONS]
NAMES = {key.value for key in Keys if not key.value.startswith("<")} | {
    _character_to_key(chr(code)) for code in range(0x20, 0x7F)
}
"""What Textual calls the keys."""


def check(keys: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """What can be used, and a sentence for everything else; a wrong line costs only itself."""
    good: dict[str, str] = {}
    problems = []
    for identity, wanted in keys.items():
        names = [name.strip() for name in wanted.split(",")]
        wrong = next((name for name in names if not known(name)), None)
        if identity not in IDS:
            words = say("tui.keys_action", id=clean_line(identity, 40))
            problems.append(words + _nearest(identity, IDS))
        elif wrong is not None:
            words = say("tui.keys_key", id=identity, key=clean_line(wrong, 40))
            problems.append(words + _nearest(wrong, sorted(NAMES)))
        else:
            good[identity] = ",".join(names)
    return good, problems


def known(key: str) -> bool:
    """Whether Textual can name a key so: `f6`, `ctrl+f`, `alt+enter`, `A`."""
    if key in NAMES:
        return True
    *modifiers, last = key.split("+")
    return MODIFIERS.issuperset(modifiers) and (len(last) == 1 or last in NAMES)


def _nearest(name: str, among: list[str]) -> str:
    close = difflib.get_close_matches(name, among, n=1, cutoff=0.6)
    return " " + say("tui.keys_nearest", name=close[0]) if close else ""
