"""`llmchat chats export` and `import`: conversations as files.

A file gets the words exactly as they are. What goes to stdout is cleaned as everything there is;
JSON stays exact there too, by its own escapes. A file that exists is never written over, and one
that could not be finished is taken away again.
"""

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmchat.cli.output import answer_json, escape_controls, note, write_answer
from llmchat.cli.parameters import ChatId
from llmchat.cli.parts import ask_core
from llmchat.errors import ExitCode, LlmchatError, NotFound, UsageError
from llmchat.text import say
from llmchat.text.cleaning import clean

if TYPE_CHECKING:
    from llmchat.core.carrying import ImportedAll
    from llmchat.core.exporting.formats import ExportKind
    from llmchat.core.runtime import Runtime

KINDS: tuple["ExportKind", ...] = ("md", "json", "jsonl", "html")
SUFFIXES: dict[str, "ExportKind"] = {".markdown": "md", ".htm": "html"}

Write = Callable[[str], object]


@click.command("export", help=say("cli.about_chats_export"))
@click.argument("chat", type=ChatId(), metavar="[CHAT]", required=False)
@click.option("-a", "--all", "everything", is_flag=True, help=say("cli.opt_export_all"))
@click.option("--branch", "leaf", metavar="MESSAGE", help=say("cli.opt_branch"))
@click.option("--format", "kind", type=click.Choice(KINDS), help=say("cli.opt_format"))
@click.option("-o", "--output", "path", type=click.Path(), help=say("cli.opt_output"))
def export_chats(
    chat: str | None,
    everything: bool,
    leaf: str | None,
    kind: "ExportKind | None",
    path: str | None,
) -> None:
    """One conversation, one branch of it, or all; to stdout or a new file."""
    if everything == bool(chat or leaf):
        raise UsageError("cli.export_what")
    chosen = kind or _kind_of(path)

    async def pieces(rt: "Runtime") -> AsyncGenerator[str, None]:
        end = None if leaf is None else await rt.chats.find_message(leaf)
        ids = None if end is None else [end.conversation]
        if chat is not None:
            ids = [(await rt.chats.find(chat)).id]
        names: list[str] = []
        export = rt.chats.export(
            ids, kind=chosen, leaf=None if end is None else end.id, on_left_out=names.append
        )
        async with aclosing(export) as found:
            async for piece in found:
                yield piece
        if names:
            shown = ", ".join(names[:5])
            note(say("cli.export_left_out", count=len(names), names=shown))

    async def write(rt: "Runtime", put: Write) -> None:
        async with aclosing(pieces(rt)) as found:
            async for piece in found:
                put(piece)

    if path is None:
        harmless = escape_controls if chosen in ("json", "jsonl") else clean
        ask_core(lambda rt: write(rt, lambda text: write_answer(harmless(text))))
    else:
        with _NewFile(path) as file:
            ask_core(lambda rt: write(rt, file.write))
        note(say("cli.exported", path=path))


def _kind_of(path: str | None) -> "ExportKind":
    """The format that a file's name asks for; Markdown if it says nothing."""
    suffix = Path(path or "").suffix.lower()
    return next((kind for kind in KINDS if suffix == f".{kind}"), SUFFIXES.get(suffix, "md"))


class _NewFile:
    """A file that was not there, and is not there again if it could not be finished."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> "_NewFile":
        try:
            self._file = open(self._path, "x", encoding="utf-8", newline="")
        except FileExistsError as error:
            raise UsageError("cli.file_exists", path=self._path) from error
        except OSError as error:
            raise self._refusal(error) from error
        return self

    def write(self, text: str) -> None:
        """Exactly `text`."""
        try:
            self._file.write(text)
        except OSError as error:
            raise self._refusal(error) from error

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            self._file.close()
        except OSError as error:
            self._remove()
            raise self._refusal(error) from error
        if kind is not None:
            self._remove()

    def _remove(self) -> None:
        with suppress(OSError):
            Path(self._path).unlink()

    def _refusal(self, error: OSError) -> LlmchatError:
        reason = error.strerror or str(error)
        return LlmchatError("cli.file_unwritable", path=self._path, reason=reason)


@click.command("import", help=say("cli.about_chats_import"))
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(allow_dash=True), metavar="FILE..."
)
@click.option("--again", is_flag=True, help=say("cli.opt_again"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def import_chats(files: tuple[str, ...], again: bool, as_json: bool) -> int:
    """Each file by itself: one that cannot be read does not keep the others out."""

    async def bring_in(rt: "Runtime") -> tuple[list[dict[str, Any]], int]:
        told: list[dict[str, Any]] = []
        worst = int(ExitCode.OK)
        for path in files:
            try:
                done = await _import_one(rt, path, again=again)
            except LlmchatError as error:
                worst = worst or int(error.exit_code)
                told.append({"file": path, "error": error.sentence, "conversations": []})
                note(f"{path}: {error.sentence}")
                if error.hint:
                    note(error.hint)
            else:
                told.append(_told(path, done))
                if not as_json:
                    _tell(path, done)
        return told, worst

    told, worst = ask_core(bring_in)
    if as_json:
        answer_json(told)
    return worst


async def _import_one(rt: "Runtime", path: str, *, again: bool) -> "ImportedAll":
    data = _read(path)
    # A store that was moved aside keeps its name, whatever is left of its first bytes.
    if data.startswith(b"SQLite format 3\0") or ".db.damaged-" in Path(path).name:
        return await rt.chats.recover(Path(path), again=again)
    return await rt.chats.import_(data, again=again)


def _read(path: str) -> bytes:
    """At most a byte more than may be imported, for core to refuse.

    Raises:
        NotFound: it is not there, or cannot be read.
    """
    from llmchat.core.exporting.reading import MAX_BYTES

    try:
        if path == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotFound("cli.file_unreadable", path=path, reason=reason) from error


def _told(path: str, done: "ImportedAll") -> dict[str, Any]:
    conversations = [
        {
            "id": each.conversation.id,
            "title": each.conversation.title,
            "messages": each.messages,
            "new": each.is_new,
        }
        for each in done.conversations
    ]
    return {
        "file": path,
        "format": done.format,
        "conversations": conversations,
        "left_out": done.left_out,
    }


def _tell(path: str, done: "ImportedAll") -> None:
    new = [each for each in done.conversations if each.is_new]
    for each in new:
        write_answer(clean(f"{each.conversation.id}  {each.conversation.title or '-'}") + "\n")
    note(say("cli.imported", path=path, new=len(new), format=done.format))
    if len(new) < len(done.conversations):
        note(say("cli.imported_here", count=len(done.conversations) - len(new)))
    if done.left_out:
        note(say("cli.imported_left_out", count=done.left_out))
