"""How a key is called for people: Textual's `ctrl+pageup` is `Ctrl+PgUp`.

Owns the names; refuses to know what a key does.
"""

from textual.keys import _character_to_key

_NAMES = {
    **{_character_to_key(chr(code)): chr(code) for code in range(0x21, 0x7F)},
    "escape": "Esc",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "delete": "Del",
    "insert": "Ins",
    "ctrl-at": "Ctrl+@",
}
"""What does not follow from the name; of the keys with a character's name, the character."""


def key_label(key: str) -> str:
    """A key as people write it: `ctrl+o` is `Ctrl+O`, `f1` is `F1`, `full_stop` is `.`."""
    *modifiers, last = key.split("+")
    shown = _NAMES.get(last, last.capitalize())
    if modifiers and len(shown) == 1:
        shown = shown.upper()
    return "+".join([*(word.capitalize() for word in modifiers), shown])


def keys_label(keys: str) -> str:
    """Several, as bindings list them: `up,k` is `↑ k`."""
    return " ".join(key_label(key.strip()) for key in keys.split(","))
