"""A branch as Markdown: a heading a message, thinking folded away, tools and states named.

For reading: the words are exactly the model's and the user's; nothing is escaped.
"""

from collections.abc import Iterator

from llmchat.core.exporting.branches import branch
from llmchat.text.cleaning import clean_line
from llmchat.values import Part, SavedConversation, SavedMessage


def markdown(saved: SavedConversation) -> str:
    """The active branch; ends with a newline."""
    lines = [f"# {clean_line(saved.title) or saved.id}", ""]
    if saved.settings.system:
        lines += ["## system", "", saved.settings.system, ""]
    for message in branch(saved):
        lines += [*_message(message), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _message(message: SavedMessage) -> Iterator[str]:
    made = message.generation
    yield f"## {message.role}" + (f" ({clean_line(made.model)})" if made and made.model else "")
    for part in message.parts:
        yield ""
        yield from _part(part)
    if message.status != "complete":
        yield ""
        yield f"*{message.status}{': ' + message.error if message.error else ''}*"


def _part(part: Part) -> Iterator[str]:
    name = clean_line(part.meta.get("name", ""))
    if part.kind == "text":
        yield part.text
    elif part.kind == "thinking":
        yield from ("<details><summary>thinking</summary>", "", part.text, "", "</details>")
    else:
        yield f"[{f'{part.kind} {name}'.rstrip()}]"
        if part.text:
            fence = fence_for(part.text)
            yield from ("", fence, part.text, fence)


def fence_for(text: str) -> str:
    """A fence of backticks that `text` cannot close."""
    fence = "```"
    while fence in text:
        fence += "`"
    return fence
