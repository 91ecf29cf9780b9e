"""Model cards: plain text for a terminal, whatever their makers wrote."""

import pytest

from llmchat.core.discovery import Discovery
from llmchat.errors import HubError, NotFound
from llmchat.hub.card import MOST, card_text
from llmchat.text.cleaning import clean
from tests.hub.conftest import Site, gguf_bytes
from tests.hub.server import Hub


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("---\nlicense: mit\n---\n# Title\n", "# Title"),
        ("\ufeff---\r\nlicense: mit\r\n---\r\n# Title", "# Title"),
        ("no front matter\n---\nrest", "no front matter\n---\nrest"),
        ("a<!-- secret\nlines -->b", "ab"),
        ("a<!-- never closed", "a"),
        ('<p align="center"><b>x</b></p>', "x"),
        ("<script>alert(1)</script>y<style>p{}", "y"),
        ("![logo](https://e.org/l.png)after", "(image: logo)after"),
        ("![](https://e.org/beacon?q=1)after", "after"),
        ("[![CI](https://e.org/b.svg)](https://e.org/ci)", "(image: CI) (https://e.org/ci)"),
        ("[docs](https://e.org/d)", "docs (https://e.org/d)"),
        ("[bad](javascript:alert(1))", "[bad](javascript:alert(1))"),  # only text
        ("[file](file:///etc/passwd)", "file"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("&lt;think&gt; &amp;", "<think> &"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("a\n\n\n\n\nb", "a\n\nb"),
    ],
)
def test_what_stays_of_a_card(markdown, text):
    assert card_text(markdown) == text


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b]52;c;eA==\x07",
        "&#27;]0;title&#7;",
        "&#x9b;31m",
        "\u202ereversed",
        "&#8238;reversed",
        "\ud800",
    ],
)
def test_nothing_in_a_card_reaches_a_terminal(hostile):
    text = card_text(f"before {hostile} after")
    assert clean(text) == text
    assert text.startswith("before ")


@pytest.mark.parametrize(
    "huge",
    ["<" * 300_000, "[" * 300_000, "![" * 150_000, "<!--" * 75_000, "&lt;" * 75_000, "\n" * 300_000,
     "<a " * 100_000, "[x](" * 75_000, "---\n" * 75_000, "<style>" * 40_000, "<style " * 40_000],
    ids=lambda huge: huge[:8].replace("\n", "newline "),
)  # fmt: skip
def test_a_card_made_to_hurt_is_cut(huge):
    assert len(card_text(huge)) <= MOST + 2


def test_fetched_from_the_hub(hub: Hub, site: Site):
    hub.put("o/m", {"m-Q4_0.gguf": gguf_bytes(100), "README.md": b"---\nx: y\n---\n# M\n\xff"})
    hub.put("o/none", {"m-Q4_0.gguf": gguf_bytes(100)})
    discovery = Discovery(environ=site.environ, models=site.models, config=site.config)
    assert discovery.card("o/m:Q4_0") == "# M\n\N{REPLACEMENT CHARACTER}"
    with pytest.raises(NotFound) as caught:
        discovery.card("o/none")
    assert caught.value.key == "hub.no_card"


def test_a_gated_card_says_where_to_accept(hub: Hub, site: Site):
    hub.put("o/m", {"README.md": b"# M"})
    hub.gated.add("o/m")
    discovery = Discovery(environ=site.environ, models=site.models, config=site.config)
    with pytest.raises(HubError) as caught:
        discovery.card("o/m")
    assert caught.value.key == "hub.gated"
    assert "o/m" in (caught.value.hint or "")
