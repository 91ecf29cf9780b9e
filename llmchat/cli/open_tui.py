"""The one lazy line that opens the TUI, behind the guardian of the terminal.

Refuses when there is no terminal to draw on: one sentence, exit code 2, no escape sequence.
"""

import gc
import os

from llmchat.cli.guardian import stand_guard
from llmchat.cli.terminal import require_terminal
from llmchat.values import ChatSettings


def open_tui(
    *, conversation: str | None = None, model: str | None = None, flags: ChatSettings | None = None
) -> int:
    """Open the chat at a conversation (None: the last one) and return the exit code.

    Returns in a child process; the parent waits, restores the terminal and exits itself.

    Raises:
        UsageError: stdin, stdout or stderr is no terminal, or one that cannot be drawn on.
    """
    require_terminal()
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)  # exported, Textual would trust them over a resized terminal
    stand_guard()  # before Textual is imported: the parent stays small and harmless
    gc.disable()  # a tenth of the way to the first key; the chat enables it once it is open
    from llmchat.tui.app import run_tui

    return run_tui(conversation=conversation, model=model, flags=flags or ChatSettings())
