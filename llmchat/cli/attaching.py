"""`run -f`: files, folders and patterns as parts, each told on stderr with its size and tokens."""

from collections.abc import Sequence

from llmchat.cli.amounts import size
from llmchat.cli.output import end_status, note, status
from llmchat.core.attaching.attachments import Attachments, about_tokens
from llmchat.paths import find_places
from llmchat.text import say
from llmchat.values import Part


def attach(patterns: Sequence[str]) -> list[Part]:
    """The parts that the patterns mean, in their order; what is passed over is said.

    Raises:
        NotFound: nothing fits one of them.
        UsageError: a file is no text, too large, or a document that cannot be taken apart.
    """
    attachments = Attachments(find_places().blobs)
    parts: list[Part] = []
    for pattern in patterns:
        status(say("cli.attaching", name=pattern))
        try:
            found = attachments.read(pattern)
        finally:
            end_status()
        parts += found.parts
        for part in found.parts:
            note(_line(part))
        if found.passed_over:
            names = ", ".join(found.passed_over[:5])
            note(say("cli.passed_over", count=len(found.passed_over), names=names))
    if len(parts) > 1:
        note(say("cli.attached_all", count=len(parts), tokens=about_tokens(parts)))
    return parts


def _line(part: Part) -> str:
    name, bytes_ = part.meta["name"], size(int(part.meta["size"]))
    if part.kind == "image":
        return say("cli.attached_image", name=name, size=bytes_)
    return say("cli.attached", name=name, size=bytes_, tokens=about_tokens([part]))
