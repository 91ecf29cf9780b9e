"""`llmchat config`: settings, each with the layer that set it."""

import click
import msgspec

from llmchat.cli.output import answer, answer_json, note, table
from llmchat.cli.parameters import Kind
from llmchat.cli.parts import open_settings
from llmchat.paths import find_places
from llmchat.text import say


class SettingKey(Kind):
    """A setting's dotted key."""

    name = "key"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """The keys there are."""
        from llmchat.core.settings import SettingsService

        known = SettingsService(find_places(), {}).describe()
        return [
            click.shell_completion.CompletionItem(facts.key, help=facts.about)
            for facts in known
            if facts.key.startswith(incomplete)
        ]


@click.group(help=say("cli.about_config"), invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> None:
    """Alone: the list."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_settings, as_json=False)


@config.command("list", help=say("cli.about_config_list"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def list_settings(as_json: bool) -> None:
    """Every setting, its value and who set it."""
    known = open_settings().describe()
    if as_json:
        answer_json(known)
    else:
        rows = [(facts.key, _text(facts.value), facts.source, facts.about) for facts in known]
        table(("KEY", "VALUE", "FROM", "ABOUT"), rows)


@config.command("get", help=say("cli.about_config_get"))
@click.argument("key", type=SettingKey())
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
def get_setting(key: str, as_json: bool) -> None:
    """The value alone on stdout, so that a script can use it."""
    facts = open_settings().get(key)
    if as_json:
        answer_json(facts)
    else:
        answer(_text(facts.value))
        note(say("cli.set_by", source=facts.source))


@config.command("set", help=say("cli.about_config_set"))
@click.argument("key", type=SettingKey())
@click.argument("value", required=False)
@click.option("--unset", is_flag=True, help=say("cli.opt_unset"))
def set_setting(key: str, value: str | None, unset: bool) -> None:
    """Writes config.toml and keeps the comments in it."""
    if unset == (value is not None):
        raise click.UsageError(say("cli.set_or_unset"))
    open_settings().set(key, None if unset else value)


@config.command("path", help=say("cli.about_config_path"))
def config_path() -> None:
    """The file's place, whether it is there or not."""
    answer(str(find_places().config_file))


def _text(value: object) -> str:
    """As `config set` takes it; empty when nothing is set."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
