"""Changing `config.toml` without losing a comment, a blank line, or the file.

Writes beside the file and renames, so a crash leaves the old or the new one, and follows a link,
so that a file kept elsewhere stays there.
"""

import os
from pathlib import Path

from llmchat.errors import ConfigError


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
    replace_text(target, tomlkit.dumps(document))


def replace_text(path: Path, text: str) -> None:
    """Replace a small text file in one step.

    Raises:
        ConfigError: it cannot be written; the old one is as it was.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        import tempfile  # only to write

        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        part = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.chmod(mode)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError("config.unwritable", path=path, reason=reason) from error
