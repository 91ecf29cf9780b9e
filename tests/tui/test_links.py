"""Which links a model may offer."""

import pytest

from llmchat.tui.links import openable


@pytest.mark.parametrize("url", ["https://example.org/a?b=c#d", "http://localhost:8080/"])
def test_the_web_may_be_opened(url):
    assert openable(url)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "data:text/html,x",
        "vscode://x/y",
        "claude-cli://x",
        "https://bank.example@evil.example/",
        "https:///nothing",
        "https://a.example/\nhttps://b.example",
        "https://a.example/\x1b]52;c;x\x07",
        "https://a.example/\u202egpj.exe",
        "https://a.example/" + "x" * 5000,
        "https://[::1",
        "mailto:a@b.example",
        "",
    ],
)
def test_nothing_else_may(url):
    assert not openable(url)
