"""Models under names that the user gave: files referred to, and copies with settings of their own.

Owns when an alias is a line of its own in the list. Any other alias is one more way to say a name.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from llmchat.errors import LlmchatError
from llmchat.library.finding import find
from llmchat.library.found import Found


def under_own_name(
    text: str, model: Found, aliases: Mapping[str, str], own: Collection[str]
) -> Found:
    """`model`, found by typing `text`, under the alias that was typed if that one stands alone.

    `own` are the names with settings of their own.
    """
    alias = next((a for a in aliases if a.casefold() == text.strip().casefold()), None)
    if alias is None or not (model.source == "file" or alias in own):
        return model
    return replace(model, name=alias, also=(*model.also, model.name))


def named(models: Sequence[Found], aliases: Mapping[str, str], own: Collection[str]) -> list[Found]:
    """Those of the user's names that stand alone, and whose model is here."""
    found = []
    for alias in aliases:
        try:
            model = under_own_name(alias, find(alias, models, aliases), aliases, own)
        except LlmchatError:
            continue  # what it means is not here now
        if model.name == alias:
            found.append(model)
    return found
