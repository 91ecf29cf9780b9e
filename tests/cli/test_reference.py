"""docs/cli.md says what the program says."""

from pathlib import Path

from llmchat.cli.program import COMMANDS
from llmchat.cli.reference import reference
from llmchat.errors import ExitCode

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_what_the_commands_say():
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "python -m llmchat.cli.reference docs/cli.md renews it"
    )


def test_every_command_and_code_is_there():
    page = reference()
    assert [name for name in COMMANDS if f"## llmchat {name}\n" not in page] == []
    assert [code for code in ExitCode if f"| {int(code)} | " not in page] == []
