"""House rules that a machine can check: size, names, colours, and what may be imported early."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "llmchat").rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_is_short_and_says_what_it_is(module: Path):
    source = module.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 500
    assert ast.get_docstring(ast.parse(source)), "a module begins with what it owns"


def test_no_module_is_named_after_nothing():
    vague = re.compile(r"utils?|helpers?|misc|common|.*manager")
    assert [m for m in MODULES if vague.fullmatch(m.stem)] == []


def test_stylesheets_use_theme_tokens_only():
    hex_colour = re.compile(r"#[0-9a-fA-F]{3,8}\b")
    for sheet in (ROOT / "llmchat").rglob("*.tcss"):
        # An id selector may look like a colour; a value never stands at the start of a rule.
        values = re.findall(r":\s*([^;{}]*);", sheet.read_text(encoding="utf-8"))
        assert [v for v in values if hex_colour.search(v)] == [], sheet.name


CATCHERS = {
    "llmchat/cli/main.py",  # the command line's one place
    "llmchat/engine/shell/inference.py",  # the worker's loop: around it
    "llmchat/engine/worker/inbox.py",  # and inside it, so that one request's failure is its own
    "llmchat/engine/worker/loop.py",  # a cache that breaks ends nobody's reply
    "llmchat/tui/app.py",  # the app's worker-error handler
}


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    """Whether it catches all there is and does not raise it again."""
    kind = handler.type
    wide = kind is None or (
        isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}
    )
    last = handler.body[-1]
    return wide and not (isinstance(last, ast.Raise) and last.exc is None)


def test_only_the_named_places_catch_everything():
    found = {
        str(module.relative_to(ROOT))
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and swallows_everything(node)
    }
    assert found <= CATCHERS


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has imported after `statement`."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "banned"),
    [
        ("import llmchat", {"click", "msgspec", "textual", "rich", "asyncio", "tomllib"}),
        ("import llmchat.cli.main", {"textual", "huggingface_hub", "llama_cpp", "apsw", "asyncio"}),
        (
            "import llmchat.core.models",
            {"textual", "rich", "click", "apsw", "asyncio", "llama_cpp"},
        ),
        (
            "import llmchat.core.runtime",
            {"textual", "rich", "click", "huggingface_hub", "llama_cpp"},
        ),
        ("import llmchat.engine.client.engine", {"textual", "rich", "click", "llama_cpp", "numpy"}),
        ("import llmchat.engine.scripted.backend", {"textual", "rich", "llama_cpp", "numpy"}),
        ("import llmchat.gguf", {"numpy", "gguf", "llama_cpp"}),
        ("import llmchat.tui.app", {"huggingface_hub", "llama_cpp", "numpy", "click"}),
    ],
)
def test_nothing_heavy_is_imported_early(statement: str, banned: set[str]):
    assert modules_after(statement) & banned == set()
