"""What the screens look like, at 80 x 24 and 120 x 40.

Judge a difference by eye, then update: `pytest tests/tui/test_snapshots.py --snapshot-update`.
"""

import pytest
from msgspec.structs import replace
from textual.widgets import Input, TextArea

from llmchat.core.events import PromptRead
from llmchat.core.inforce import ContextUse
from llmchat.engine.protocol import WorkerStatus
from llmchat.errors import WorkerDied
from llmchat.tui.screens.help import HelpScreen
from llmchat.tui.widgets.hints import Hints
from llmchat.values import ModelFile
from tests.tui.conftest import ready, until
from tests.tui.fake import NOW, STARTER

SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
ANSWER = """The sky is blue because air scatters **short wavelengths** more than long ones; this is
*Rayleigh scattering*.

## In numbers

1. Blue light: about 450 nm
2. Red light: about 700 nm

```python
def ratio(blue: float = 450, red: float = 700) -> float:
    return (red / blue) ** 4  # about 5.9
```

> Violet is scattered even more, but the sun sends less of it.

See [Rayleigh](https://example.org/rayleigh) for `more`.
"""


@pytest.fixture
def talks(runtime):
    """Conversations on several days; the newest is long enough to scroll."""
    chats = runtime.chats
    chats.talk("Terminal colours in tmux", ("a", "b"), updated=NOW - 9 * 86_400)
    chats.talk("A title that certainly does not fit into it", ("a", "b"), updated=NOW - 3 * 86_400)
    chats.talk("Sourdough at 65 % hydration", ("a", "b"), updated=NOW - 90_000)
    chats.talk("Why the sky is blue", ("Why is the sky blue?\nWith numbers.", ANSWER))
    chats.use = ContextUse(used=3412, limit=8192)
    runtime.models.workers = [WorkerStatus(model=STARTER.name, processor="100% CPU")]
    return chats


def before(action=None):
    """Wait until the app is at rest, then do `action`."""

    async def run(pilot):
        await ready(pilot)
        chat = pilot.app.chat
        chat.composer.cursor_blink = False  # before a screen can cover it
        if action is not None:
            await action(pilot, chat)
        await until(pilot, lambda: has_its_focus(pilot.app.screen), "the cursor")
        for writable in (*pilot.app.screen.query(Input), *pilot.app.screen.query(TextArea)):
            writable.cursor_blink = False  # what opened with a cursor of its own
        await pilot.wait_for_scheduled_animations()
        await until(pilot, lambda: at_rest(pilot.app), "everything to be drawn")

    return run


def has_its_focus(screen):
    """Whether what has the focus knows it: a cursor that stops blinking before that is gone."""
    return screen.focused is None or screen.focused.has_focus


def at_rest(app):
    """Whether nothing is on its way to the screen: no work but what waits for a test or a clock."""
    screen = app.screen
    working = [worker for worker in app.workers if worker.group not in {"draft", "follow"}]
    drawing = screen._layout_required or screen._repaint_required or screen._dirty_widgets
    return not (working or drawing or screen._callbacks)


@SIZES
def test_a_conversation(snap_compare, make_app, talks, size):
    assert snap_compare(make_app(), terminal_size=size, run_before=before())


def test_the_light_theme(snap_compare, make_app, talks):
    app = make_app(theme="llmchat-light")
    assert snap_compare(app, terminal_size=(120, 40), run_before=before())


@SIZES
def test_no_model_yet(snap_compare, make_app, runtime, size):
    runtime.models.here.clear()
    assert snap_compare(make_app(), terminal_size=size, run_before=before())


@SIZES
def test_reading_a_long_prompt_while_typing(snap_compare, make_app, talks, size):
    async def read(pilot, chat):
        await pilot.press(*"And at sunset", "enter")
        await until(pilot, lambda: talks.running)
        turn = talks.running[0]
        await turn.publish(
            PromptRead(
                **turn.tag, done=1024, total=8192, from_memory=0, from_disk=0, seconds_left=12
            )
        )
        await until(pilot, lambda: chat.activity.words)
        await pilot.press(*"typing goes on")

    assert snap_compare(make_app(), terminal_size=size, run_before=before(read))


@SIZES
def test_the_worker_died(snap_compare, make_app, talks, size):
    async def die(pilot, chat):
        await pilot.press(*"And at sunset", "enter")
        await until(pilot, lambda: talks.running)
        turn = talks.running[0]
        await turn.write("At sunset the light passes through")
        await turn.fail(WorkerDied(signal="SIGKILL"))
        await until(pilot, lambda: chat.turn is None)
        await until(pilot, lambda: chat.status.state == "Ready")

    assert snap_compare(make_app(), terminal_size=size, run_before=before(die))


@SIZES
def test_settings(snap_compare, make_app, talks, size):
    async def show(pilot, chat):
        await pilot.press("f4")
        await until(pilot, lambda: chat.query("SettingsPanel #sampling-temperature"))
        await until(pilot, lambda: chat.query_one("#sampling-temperature").placeholder)

    newest = list(talks.conversations)[-1]
    talks.conversations[newest] = replace(
        talks.conversations[newest],
        settings=replace(talks.conversations[newest].settings, system="Be brief.", max_tokens=256),
    )
    assert snap_compare(make_app(), terminal_size=size, run_before=before(show))


@SIZES
def test_the_model_switcher(snap_compare, make_app, talks, runtime, size):
    for name, bytes_ in (("bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", 2_019_377_696),):
        runtime.models.here.append(ModelFile(name=name, path="/x", identity="1", size=bytes_))

    async def show(pilot, chat):
        await pilot.press("ctrl+o")
        await until(pilot, lambda: pilot.app.screen.query("ModelList"))
        await until(pilot, lambda: pilot.app.screen.query_one("ModelList").option_count == 2)

    assert snap_compare(make_app(), terminal_size=size, run_before=before(show))


@SIZES
def test_searching_everything(snap_compare, make_app, talks, size):
    async def show(pilot, chat):
        await pilot.press("ctrl+k", *"sky")
        await until(pilot, lambda: pilot.app.screen.query("OptionList"))
        await until(pilot, lambda: pilot.app.screen._looked == "sky", "the whole word's results")
        await until(pilot, lambda: pilot.app.screen.query_one("OptionList").option_count)

    assert snap_compare(make_app(), terminal_size=size, run_before=before(show))


@SIZES
def test_help(snap_compare, make_app, talks, size):
    async def show(pilot, chat):
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        await until(pilot, lambda: pilot.app.screen.query_one("Static").size.height > 24)

    assert snap_compare(make_app(), terminal_size=size, run_before=before(show))


def test_a_focused_message(snap_compare, make_app, talks):
    async def focus(pilot, chat):
        await pilot.press("shift+tab")
        await until(pilot, lambda: chat.transcript.has_focus_within)
        await until(pilot, lambda: chat.query_one(Hints).scope == "message")

    assert snap_compare(make_app(), terminal_size=(120, 40), run_before=before(focus))


def test_the_smallest_usable(snap_compare, make_app, talks):
    assert snap_compare(make_app(), terminal_size=(20, 6), run_before=before())
