"""The table of actions and what reads it agree."""

import pytest

from llmchat.tui.actions import ACTIONS, bindings, keys_of
from llmchat.tui.key_names import key_label, keys_label
from llmchat.tui.keymap import NAMES
from llmchat.tui.screens.chat import ChatScreen
from llmchat.tui.widgets.composer import Composer
from llmchat.tui.widgets.message import MessageView
from llmchat.tui.widgets.sidebar import Sidebar

OWNERS = {"chat": ChatScreen, "composer": Composer, "message": MessageView, "sidebar": Sidebar}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
def test_an_action_has_a_method_and_words(action):
    method = action.name.split("(")[0]
    assert hasattr(OWNERS[action.scope], f"action_{method}")
    assert action.label
    assert action.help.endswith((".", "?"))


def test_ids_are_unique_and_keys_do_not_collide_within_a_scope():
    assert len({action.id for action in ACTIONS}) == len(ACTIONS)
    for scope in OWNERS:
        keys = [k for a in ACTIONS if a.scope == scope for k in a.keys.split(",")]
        assert len(keys) == len(set(keys)), scope


def test_no_key_is_one_that_a_terminal_cannot_tell_apart():
    keys = {key for action in ACTIONS for key in action.keys.split(",")}
    assert not keys & {"ctrl+i", "ctrl+m", "ctrl+h", "ctrl+left_square_bracket"}


def test_what_is_under_ctrl_b_is_under_a_function_key_too():
    sidebar = next(action for action in ACTIONS if action.id == "chat.sidebar")
    assert sidebar.keys == "ctrl+b,f5"


@pytest.mark.parametrize(
    ("key", "label"),
    [
        *(("ctrl+o", "Ctrl+O"), ("f1", "F1"), ("alt+enter", "Alt+Enter"), ("e", "e"), ("Y", "Y")),
        *(("pageup", "PgUp"), ("ctrl+pagedown", "Ctrl+PgDn"), ("shift+tab", "Shift+Tab")),
        *(("full_stop", "."), ("ctrl+right_square_bracket", "Ctrl+]"), ("minus", "-")),
    ],
)
def test_keys_are_written_as_people_write_them(key, label):
    assert key_label(key) == label


def test_no_key_has_a_name_that_only_a_program_knows():
    for key in sorted(NAMES | {key for action in ACTIONS for key in action.keys.split(",")}):
        label = key_label(key)
        assert label.isprintable(), key
        for word in filter(None, label.split("+")):
            is_name = word.isalnum() and word[0].isupper() and not word.lower().startswith("page")
            assert is_name or len(word) == 1, (key, label)


def test_every_key_of_an_action_is_shown_on_the_page_of_keys():
    from llmchat.tui.screens.help import HelpScreen

    shown = HelpScreen()._text(60).plain
    assert all(keys_label(action.keys) in shown for action in ACTIONS)


def test_a_binding_carries_the_id_that_a_user_remaps():
    ids = {binding.id for binding in bindings("chat")}  # type: ignore[union-attr]
    assert "chat.model" in ids
    model = next(action for action in ACTIONS if action.id == "chat.model")
    assert keys_of(model, {"chat.model": "f8"}) == "f8"


async def test_a_remapped_key_works_and_the_old_one_does_not(make_app):
    from llmchat.tui.screens.help import HelpScreen
    from tests.tui.conftest import ready, until

    async with make_app(keymap={"chat.help": "f8"}).run_test() as pilot:
        await ready(pilot)
        await pilot.press("f1")
        assert not isinstance(pilot.app.screen, HelpScreen)
        await pilot.press("f8")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))


def test_the_users_keys_are_checked_each_for_itself():
    from llmchat.tui.keymap import check

    good, problems = check(
        {
            "chat.search": "ctrl+f, f6",
            "chat.serach": "f7",
            "chat.new": "ctrl+entre",
            "message.copy": "Y",
            "message.copy_code": "left_square_bracket",
        }
    )
    assert set(good) == {"chat.search", "message.copy", "message.copy_code"}
    assert good["chat.search"] == "ctrl+f,f6"
    assert len(problems) == 2
    assert "chat.search" in problems[0]
    assert "ctrl+entre" in problems[1]


def test_every_key_of_ours_is_a_key():
    from llmchat.tui.keymap import known

    assert all(known(key) for action in ACTIONS for key in action.keys.split(","))


async def test_wrong_keys_are_one_notice(make_app):
    from tests.tui.conftest import ready

    async with make_app(keymap={"chat.hlep": "f8", "chat.new": "nokey"}).run_test() as pilot:
        await ready(pilot)
        [notice] = pilot.app._notifications
        assert "chat.help" in notice.message


def test_keys_come_from_config_toml(tmp_path):
    from llmchat.config.reading import read_file

    path = tmp_path / "config.toml"
    path.write_text('[keys]\nchat.search = "ctrl+f"\n"chat.new" = ["f2", "f3"]\nchat.help = 1\n')
    loaded = read_file(path)
    assert loaded.settings.keys == {"chat.search": "ctrl+f", "chat.new": "f2,f3"}
    assert len(loaded.problems) == 1
