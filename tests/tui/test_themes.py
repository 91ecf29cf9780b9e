"""Every theme file loads and can be read on every surface; a broken one is a notice."""

import re
from pathlib import Path

import pytest
from textual.color import Color

from llmchat.tui.themed import ThemedApp
from llmchat.tui.themes import (
    DARK,
    LIGHT,
    bundled_folder,
    preferred,
    read_theme,
    read_themes,
    token_defaults,
)
from tests.tui.conftest import ready, until

FILES = sorted(bundled_folder().glob("*.toml"))
SURFACES = ("background", "surface", "panel", "code-background")
TEXTS = (
    "foreground",
    "quiet",
    "turn-user",
    "turn-assistant",
    "reasoning",
    "primary",
    "accent",
    "text-primary",
    "text-accent",
    "text-warning",
    "text-error",
    "text-success",
    "markdown-h1-color",
    "markdown-h3-color",
    "link-color",
)


def luminance(color: Color) -> float:
    """WCAG 2.1, relative luminance."""

    def linear(channel: int) -> float:
        c = channel / 255
        return c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4

    return 0.2126 * linear(color.r) + 0.7152 * linear(color.g) + 0.0722 * linear(color.b)


def contrast(one: Color, other: Color) -> float:
    """WCAG 2.1, contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_measure_of_contrast_is_the_standards():
    assert contrast(Color.parse("white"), Color.parse("black")) == pytest.approx(21)
    assert contrast(Color.parse("#777777"), Color.parse("white")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_text_can_be_read_on_every_surface(path: Path):
    app = ThemedApp(path.stem)
    tokens = app.get_css_variables()
    weak = {}
    for surface in SURFACES:
        ground = Color.parse(tokens[surface])
        for text in TEXTS:
            ratio = contrast(Color.parse(tokens[text]), ground)
            if ratio < 4.5:
                weak[text, surface] = round(ratio, 2)
    assert weak == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_cursor_line_can_be_read(path: Path):
    tokens = ThemedApp(path.stem).get_css_variables()
    for kind in ("block-cursor", "block-cursor-blurred", "input-cursor"):
        ground = Color.parse(tokens[f"{kind}-background"])
        assert contrast(Color.parse(tokens[f"{kind}-foreground"]), ground) >= 4.5, kind
    ground = Color.parse(tokens["block-cursor-background"])
    # The name of the open conversation, and the numbers beside a model, lie on the cursor too.
    for text in ("primary", "quiet"):
        assert contrast(Color.parse(tokens[text]), ground) >= 4.5, text


def test_both_of_ours_are_there():
    assert {DARK, LIGHT} <= {path.stem for path in FILES}
    assert read_theme(bundled_folder() / f"{DARK}.toml").dark
    assert not read_theme(bundled_folder() / f"{LIGHT}.toml").dark


@pytest.mark.parametrize(
    "text",
    [
        'primary = "no colour"',
        'primary = "#123456"\nunknown = 1',
        'primary = "#123456"\n[variables]\nquiet = "nonsense"',
        "primary = ",
        'dark = true\n[variables]\nquiet = "#123456"',
    ],
)
def test_a_broken_file_is_in_the_list_of_failures(tmp_path: Path, text: str):
    (tmp_path / "mine.toml").write_text(text)
    found = read_themes([tmp_path])
    assert found.loaded == {}
    assert list(found.failed) == [tmp_path / "mine.toml"]


def test_a_theme_may_leave_our_tokens_out(tmp_path: Path):
    (tmp_path / "mine.toml").write_text('author = "me"\nprimary = "#4488cc"\n')
    theme = read_theme(tmp_path / "mine.toml")
    for value in token_defaults(theme).values():
        Color.parse(value)


@pytest.mark.parametrize(("ground", "theme"), [("0;15", LIGHT), ("15;0", DARK), ("", DARK)])
def test_the_terminals_ground_chooses(ground: str, theme: str):
    assert preferred({"COLORFGBG": ground}) == theme


def test_no_colour_outside_the_themes():
    hex_colour = re.compile(r"""["':\s]#[0-9a-fA-F]{3,8}\b(?!\s*\{)""")
    for path in (Path(__file__).parents[2] / "llmchat" / "tui").rglob("*.py"):
        for css in re.findall(r'CSS = f?"""(.*?)"""', path.read_text("utf-8"), re.S):
            assert not hex_colour.search(css), path.name


async def test_a_broken_theme_of_the_users_costs_one_notice(make_app, places, runtime):
    folder = places.config / "themes"
    folder.mkdir(parents=True)
    (folder / "bad.toml").write_text("primary = 1")
    (folder / "good.toml").write_text('primary = "#4488cc"')
    runtime.settings.theme = "good"
    async with make_app().run_test() as pilot:
        await ready(pilot)
        await until(pilot, lambda: pilot.app.theme == "good")
        assert len([n for n in pilot.app._notifications if "bad.toml" in n.message]) == 1


async def test_f9_changes_between_light_and_dark_and_keeps_it(make_app, runtime):
    async with make_app().run_test() as pilot:
        await ready(pilot)
        await pilot.press("f9")
        await until(pilot, lambda: runtime.settings.theme == LIGHT)
        assert pilot.app.theme == LIGHT
