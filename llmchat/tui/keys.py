"""What Textual's key parser does not know of old terminals."""

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual.keys import Keys


def teach_alt_enter() -> None:
    r"""Make Alt+Enter a new line where the terminal sends ESC CR.

    Textual 8.2.8 reports ESC CR as a plain Enter: the key that should break the line would send
    it. As Ctrl+J it does what both keys are bound to. Kitty's protocol reports alt+enter itself.
    """
    table: dict[str, object] = ANSI_SEQUENCES_KEYS  # type: ignore[assignment]
    table.setdefault("\x1b\r", (Keys.ControlJ,))
