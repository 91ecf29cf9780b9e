"""What was typed and not yet sent, for each conversation: survives switching, quitting and a kill.

Owns one small JSON file. A file that cannot be read or written costs the drafts in it, never the
chat: losing a draft is a notice at most.
"""

import json
import os
from pathlib import Path

NEW = "new"
"""The key of a chat that has no conversation yet."""


class Drafts:
    """Drafts by conversation id, in `folder/drafts.json`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "drafts.json"
        self._texts = self._read()
        self._saved = dict(self._texts)

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {str(key): text for key, text in found.items() if isinstance(text, str)}

    def get(self, conversation: str | None) -> str:
        """The draft of a conversation; None = of the chat that is not one yet."""
        return self._texts.get(conversation or NEW, "")

    def put(self, conversation: str | None, text: str) -> None:
        """Keep `text`; empty text forgets."""
        if text:
            self._texts[conversation or NEW] = text
        else:
            self._texts.pop(conversation or NEW, None)

    def save(self) -> bool:
        """Write what has changed, whole or not at all; False when the disk refuses."""
        if self._texts == self._saved:
            return True
        part = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
                json.dump(self._texts, file, ensure_ascii=False)
            part.replace(self._path)
        except OSError:
            return False
        self._saved = dict(self._texts)
        return True
