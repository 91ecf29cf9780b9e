"""`llmchat presets`: sampling and load settings under a name, from files that can be shared."""

from llmchat.cli.profiles import group

presets = group("preset", lambda settings: settings.presets)
