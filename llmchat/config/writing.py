"""Changing `config.toml` without losing a comment, a blank line, or the file.

A crash leaves the old file or the new one. A link is followed, so that a file kept elsewhere stays
there.
"""

from pathlib import Path

from llmchat.errors import ConfigError
from llmchat.whole_file import write_whole


def set_value(path: Path, key: tuple[str, ...], value: object) -> None:
    """Set one key (its tables and its name), or remove it with None.

    Raises:
        ConfigError: the file is no TOML as it is, or cannot be written.
    """
    import tomlkit  # 40 ms that only a change of settings pays
    from tomlkit.exceptions import TOMLKitError

    target = path.resolve()
    try:
        text = target.read_text(encoding="utf-8") if target.exists() else ""
        document = tomlkit.parse(text)
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise ConfigError("config.syntax", path=path, reason=str(error)) from error
    except OSError as error:
        raise ConfigError("config.unreadable", path=path, reason=error.strerror) from error
    table = document
    for name in key[:-1]:
        if name not in table:
            if value is None:
                return
            table[name] = tomlkit.table(is_super_table=name == "models")
        table = table[name]
    if value is None:
        table.pop(key[-1], None)
    else:
        table[key[-1]] = list(value) if isinstance(value, tuple) else value
    _replace(target, tomlkit.dumps(document))


def _replace(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, text.encode(), keep_mode=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError("config.unwritable", path=path, reason=reason) from error
