"""`llmchat personas`: a system prompt and settings under a name, from files that can be shared."""

from llmchat.cli.profiles import group

personas = group("persona", lambda settings: settings.personas)
