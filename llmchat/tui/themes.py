"""Themes: one TOML file each, exactly Textual's Theme fields and an author.

Owns where theme files lie, reading them, and the defaults of our own tokens. A broken file is a
failure in a list, never a crash: the caller decides what to say. Refuses colours in code.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

from textual.color import Color, ColorParseError
from textual.theme import Theme

import llmchat

DARK = "llmchat-dark"
LIGHT = "llmchat-light"

_COLOURS = ["primary", "secondary", "accent", "foreground", "background", "surface", "panel"]
_COLOURS += ["boost", "success", "warning", "error"]
_FIELDS = {item.name for item in fields(Theme)} - {"name"}
_STYLES = ("text-style", "link-style")


@dataclass(slots=True)
class Themes:
    """What was found: usable themes by name, and what is wrong with the other files."""

    loaded: dict[str, Theme] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)


def bundled_folder() -> Path:
    """`llmchat/themes` in a wheel, `themes` beside the package in a checkout."""
    package = Path(llmchat.__file__).parent
    inside = package / "themes"
    return inside if inside.is_dir() else package.parent / "themes"


def read_theme(path: Path) -> Theme:
    """The theme in a file, named after it.

    Raises:
        ValueError: not TOML, an unknown key, or a value that is no colour; says which.
        OSError: it cannot be read.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    table.pop("author", None)
    if unknown := set(table) - _FIELDS:
        raise ValueError(", ".join(sorted(unknown)))
    variables = table.get("variables", {})
    if not isinstance(variables, dict) or "primary" not in table:
        raise ValueError("primary")
    for name in _COLOURS:
        _check_colour(name, table.get(name, "black"))
    for name, value in variables.items():
        if not name.endswith(_STYLES):
            _check_colour(name, value)
    return Theme(name=path.stem, **table)


def _check_colour(name: str, value: object) -> None:
    # A variable may carry an opacity after the colour: `#689d6a 35%`.
    words = str(value).split()
    try:
        Color.parse(words[0] if words else "")
    except ColorParseError as error:
        raise ValueError(f"{name} = {value!r}") from error


def read_themes(folders: Iterable[Path]) -> Themes:
    """Every `*.toml` of the folders, in order; a later file of the same name wins."""
    found = Themes()
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            try:
                found.loaded[path.stem] = read_theme(path)
            except (ValueError, OSError) as error:
                found.failed[path] = str(error)
    return found


def token_defaults(theme: Theme) -> dict[str, str]:
    """Our own tokens for a theme that leaves them out, from the colours it has."""
    colours = theme.to_color_system().generate()
    text, primary = colours["foreground"], colours["primary"]
    return {
        "quiet": colours["foreground-muted"],
        "turn-user": colours["text-secondary"],
        "turn-assistant": colours["text-primary"],
        "reasoning": text,
        "code-background": colours["surface"],
        "meter-ok": primary,
        "meter-warn": colours["warning"],
        "meter-full": colours["error"],
        "rule": colours["panel"],
    }


def preferred(environ: dict[str, str]) -> str:
    """The theme that suits the terminal, as far as it tells: COLORFGBG's last field is its ground.

    7 and 15 are light grounds in rxvt's numbering; most terminals say nothing and are dark.
    """
    ground = environ.get("COLORFGBG", "").rpartition(";")[2]
    return LIGHT if ground in {"7", "15"} else DARK
