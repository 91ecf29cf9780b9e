"""What was typed and attached and not yet sent, by conversation: survives quitting and a kill.

Owns one small JSON file: of words the words, of an attached file its path and name (and the hash of
an image, which nothing else refers to yet). A file that cannot be read or written costs the drafts
in it, never the chat: losing a draft is a notice at most.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from llmchat.whole_file import write_whole

NEW = "new"
"""The key of a chat that has no conversation yet."""

MOST_FILES = 500
"""Of one draft: what one pattern may attach."""


class DraftFile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An attached file, as it can be found again."""

    path: str
    name: str
    blob: str | None = None
    digest: str = ""
    """Of its content when it was attached: see `digest_of`. Not known of older drafts."""


class Draft(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Words and files. In the file a draft without files is its words alone."""

    text: str = ""
    files: tuple[DraftFile, ...] = ()


NOTHING = Draft()


class Drafts:
    """Drafts by conversation id, in `folder/drafts.json`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "drafts.json"
        self._drafts = self._read()
        self._saved = dict(self._drafts)

    def _read(self) -> dict[str, Draft]:
        try:
            found = msgspec.json.decode(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(found, dict):
            return {}
        drafts = {str(key): _draft(value) for key, value in found.items()}
        return {key: draft for key, draft in drafts.items() if draft != NOTHING}

    def get(self, conversation: str | None) -> str:
        """The words of a conversation's draft; None = of the chat that is not one yet."""
        return self._drafts.get(conversation or NEW, NOTHING).text

    def files(self, conversation: str | None) -> tuple[DraftFile, ...]:
        """What is attached to them."""
        return self._drafts.get(conversation or NEW, NOTHING).files

    def put(self, conversation: str | None, text: str, files: Sequence[DraftFile] = ()) -> None:
        """Keep words and files; without either the draft is forgotten."""
        kept = tuple(
            replace(one, path=_storable(one.path), name=_storable(one.name))
            for one in files[:MOST_FILES]
        )
        draft = Draft(text=_storable(text), files=kept)
        if draft == NOTHING:
            self._drafts.pop(conversation or NEW, None)
        else:
            self._drafts[conversation or NEW] = draft

    def save(self) -> bool:
        """Write what has changed, whole or not at all; False when the disk refuses."""
        if self._drafts == self._saved:
            return True
        now = dict(self._drafts)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            stored = {key: _stored(one) for key, one in now.items()}
            write_whole(self._path, msgspec.json.encode(stored))
        except OSError:
            return False
        self._saved = now
        return True


def _stored(draft: Draft) -> Draft | str:
    return draft if draft.files else draft.text


def _draft(value: object) -> Draft:
    """What is no draft is none."""
    try:
        return Draft(text=value) if isinstance(value, str) else msgspec.convert(value, Draft)
    except msgspec.ValidationError:
        return NOTHING


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
