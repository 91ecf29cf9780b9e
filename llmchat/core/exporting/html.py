"""A branch as a web page in one file: everything escaped, no script, nothing fetched.

A policy in the page (Content-Security-Policy) forbids what its markup does not hold anyway. Control
characters, which HTML cannot carry, become visible signs; text that runs from right to left cannot
reach beyond its own block.
"""

from html import escape

from llmchat.core.exporting.branches import branch
from llmchat.text.cleaning import clean_line
from llmchat.values import Part, SavedConversation, SavedMessage

_SIGNS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n\r"} | {0x7F: 0x2421}

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
article + article { margin-top: 4rem; }
section { margin: 1rem 0; padding: .5rem 1rem; border-left: .25rem solid #8888; }
section.user { border-color: #48f; }
section.assistant { border-color: #4a6; }
h2 { font-size: .85rem; margin: 0; opacity: .7; font-weight: normal; }
pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0;
  unicode-bidi: isolate; }
pre.tool { font: .9rem/1.4 ui-monospace, monospace; }
"""

BEGIN = f"""<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width">
<title>llmchat</title>
<style>{STYLE}</style>
</head>
<body>
"""

END = "</body>\n</html>\n"


def html(saved: SavedConversation) -> str:
    """The active branch as one <article>."""
    pieces = [f"<article>\n<h1><bdi>{_line(saved.title) or _line(saved.id)}</bdi></h1>\n"]
    if saved.settings.system:
        words = _block(Part(kind="text", text=saved.settings.system))
        pieces.append(f'<section class="system">\n<h2>system</h2>\n{words}</section>\n')
    pieces += [_section(message) for message in branch(saved)]
    return "".join([*pieces, "</article>\n"])


def _section(message: SavedMessage) -> str:
    made = message.generation
    model = f" <bdi>{_line(made.model)}</bdi>" if made and made.model else ""
    body = "".join(_block(part) for part in message.parts)
    state = ""
    if message.status != "complete":
        reason = f": {message.error}" if message.error else ""
        state = f"<p><em>{_text(message.status + reason)}</em></p>\n"
    return (
        f'<section class="{message.role}">\n<h2>{message.role}{model}</h2>\n'
        f"{body}{state}</section>\n"
    )


def _block(part: Part) -> str:
    # A newline right after <pre> is dropped by browsers, so one is given for that.
    name = f" <bdi>{_line(part.meta.get('name', ''))}</bdi>"
    if part.kind == "text":
        return f'<pre dir="auto">\n{_text(part.text)}</pre>\n'
    if part.kind == "image":
        return f"<p>image{name}</p>\n"
    return (
        f"<details><summary>{part.kind}{name}</summary>"
        f'<pre class="tool" dir="auto">\n{_text(part.text)}</pre></details>\n'
    )


def _text(text: str) -> str:
    return escape(text.translate(_SIGNS), quote=True)


def _line(text: str) -> str:
    return _text(clean_line(text))
